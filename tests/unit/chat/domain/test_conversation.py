"""The rule of forgetting: the oldest first, none cut in half."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.chat.domain.conversation import Role, Utterance, fitting_history

utterances = st.lists(
    st.builds(Utterance, st.sampled_from([Role.USER, Role.ASSISTANT]), st.text(max_size=40)),
    max_size=20,
)


@given(utterances, st.integers(min_value=0, max_value=300))
def test_what_is_kept_is_the_end_of_the_history_and_fits(
    history: list[Utterance], budget: int
) -> None:
    kept = fitting_history(history, budget)

    assert kept == history[len(history) - len(kept) :]
    assert sum(len(u.content) for u in kept) <= budget
    assert not kept or kept[0].role is Role.USER


def test_a_history_that_fits_is_kept_whole() -> None:
    history = [Utterance(Role.USER, "a"), Utterance(Role.ASSISTANT, "b")]

    assert fitting_history(history, 100) == history
