"""What goes wrong at doors that speak a vendor's own interface."""

from __future__ import annotations

from shared.errors import Invalid, NotFound


class BadParameter(Invalid):
    """A field of a request in a vendor's wire that is not as it has to be."""

    code = "bad_parameter"

    def __init__(self, param: str, rule: str) -> None:
        super().__init__(f"{param} has to be {rule}.", param=param)


class UnreadableBody(Invalid):
    """A body that is no JSON object."""

    code = "unreadable_body"

    def __init__(self) -> None:
        super().__init__("The body has to be a JSON object.")


class ModelNotFound(NotFound):
    """A model that this user can't use now: none of their tier's, or none that a key reaches."""

    code = "model_not_found"

    def __init__(self, detail: str = "You can use no such model now.") -> None:
        super().__init__(detail, param="model")


class CallNotOffered(NotFound):
    """A call that the vendor knows and that is not offered here."""

    code = "call_not_offered"

    def __init__(self, surface: str) -> None:
        super().__init__(f"This call of the {surface} interface is not offered here.")
