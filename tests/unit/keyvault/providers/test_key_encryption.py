"""One contract for whatever wraps data keys: a file, the environment, Vault's transit, AWS KMS."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock
from uuid import UUID

import pytest

from services.keyvault.domain.envelope import CanaryPlace, DataKeyPlace, NotAuthentic, RootPlace
from services.keyvault.domain.fields import encode_fields
from services.keyvault.domain.key_encryption import KeyEncryption, rewrapped
from services.keyvault.domain.keyring import KeyringRefused, KeyState, new_keyring_document
from services.keyvault.domain.ports import KeyEncryptionSource
from services.keyvault.domain.rotation import with_active, with_closed, with_standby
from services.keyvault.providers.aws_kms import AwsKms
from services.keyvault.providers.key_encryption import open_key_service
from services.keyvault.providers.keyring_environment import KeyringEnvironment
from services.keyvault.providers.keyring_file import KeyringFile
from services.keyvault.providers.remote_kek import KeyService
from services.keyvault.providers.vault_transit import TransitKey, VaultTransit
from shared.errors import DependencyUnavailable
from tests.support.key_services import Answer, Asked, KmsStandIn, TransitStandIn, serving
from tests.support.keyvault import ada, grace, write_keyring

KEY = bytes(range(7, 39))
REMOTE = ("vault-transit", "aws-kms")


@dataclass
class Provider:
    """A provider under test, and the hands of its operator."""

    source: KeyEncryptionSource
    rotate: Callable[[], None]
    close_first: Callable[[], None]
    asked: Asked | None = None

    async def kek(self) -> KeyEncryption:
        return await self.source.read()

    async def place(self, **parts: Any) -> Callable[[int], DataKeyPlace]:
        environment = (await (await self.kek()).state()).environment
        place = DataKeyPlace(environment, "user", ada, UUID(int=1), 0)
        return lambda version: replace(place, **{"kek_version": version, **parts})


def file_provider(tmp_path: Path) -> Provider:
    path = write_keyring(tmp_path / "keyring.json", new_keyring_document())

    def change(*changes: Callable[[Any], Any]) -> None:
        document = json.loads(path.read_text())
        for step in changes:
            document = step(document)
        write_keyring(path, document)

    return Provider(
        KeyringFile(path),
        rotate=lambda: change(with_standby, lambda document: with_active(document, 2)),
        close_first=lambda: change(lambda document: with_closed(document, 1)),
    )


def environment_provider() -> Provider:
    documents = [new_keyring_document()]

    class Source:
        async def read(self) -> KeyEncryption:
            text = json.dumps(documents[-1])
            return await KeyringEnvironment(text, environment="development").read()

    def change(*changes: Callable[[Any], Any]) -> None:
        for step in changes:
            documents.append(step(documents[-1]))

    return Provider(
        Source(),
        rotate=lambda: change(with_standby, lambda document: with_active(document, 2)),
        close_first=lambda: change(lambda document: with_closed(document, 1)),
    )


def transit(url: str, stand_in: TransitStandIn, folder: Path) -> VaultTransit:
    token_file = folder / "token"
    token_file.write_text(stand_in.token + "\n")
    return VaultTransit(TransitKey(url, token_file), timeout_seconds=2)


def kms(url: str, keys: dict[int, str]) -> AwsKms:
    return AwsKms(keys, timeout_seconds=2, region="eu-central-1", endpoint=url)


@pytest.fixture(scope="module", autouse=True)
def aws_credentials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Made up, and none of the machine's own."""
    nothing = tmp_path_factory.mktemp("aws") / "none"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            patch.setenv(name, str(nothing))
        yield


@pytest.fixture(scope="module")
def kms_at_hand(aws_credentials: None) -> Iterator[tuple[KmsStandIn, dict[int, str], AwsKms]]:
    """One for all: boto3 takes a fifth of a second to make a client."""
    aws, keys = KmsStandIn(), dict[int, str]()
    with serving(aws) as url:
        service = kms(url, keys)
        yield aws, keys, service
        service.close()


@pytest.fixture
def servers() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
async def provider(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    servers: ExitStack,
    kms_at_hand: tuple[KmsStandIn, dict[int, str], AwsKms],
) -> AsyncIterator[Provider]:
    make: Callable[[], KeyService]
    match request.param:
        case "file":
            yield file_provider(tmp_path)
            return
        case "env":
            yield environment_provider()
            return
        case "vault-transit":
            vault = TransitStandIn()
            vault_url = servers.enter_context(serving(vault))
            asked, rotate = vault.asked, vault.rotate
            make = lambda: transit(vault_url, vault, tmp_path)  # noqa: E731

            def close_first() -> None:
                vault.oldest = 2
        case _:
            aws, keys, service = kms_at_hand
            aws.asked, aws.keys = Asked(), {"key-one": os.urandom(32)}
            keys.clear()
            keys[1] = "key-one"
            asked = aws.asked
            servers.callback(aws.asked.may_answer.set)
            make = lambda: service  # noqa: E731

            def rotate() -> None:
                aws.keys["key-two"] = bytes(range(32, 64))
                keys[2] = "key-two"

            def close_first() -> None:
                del keys[1]

    async with open_key_service(
        make, installation="test", timeout_seconds=2, cache_seconds=0
    ) as source:
        yield Provider(source, rotate, close_first, asked)


all_providers = pytest.mark.parametrize(
    "provider", ["file", "env", "vault-transit", "aws-kms"], indirect=True
)
remote_providers = pytest.mark.parametrize("provider", REMOTE, indirect=True)


@all_providers
async def test_what_was_wrapped_unwraps_to_itself(provider: Provider) -> None:
    kek, place_for = await provider.kek(), await provider.place()

    wrapped = await kek.wrap(bytearray(KEY), place_for)

    assert wrapped.version == (await kek.state()).active == 1
    assert KEY not in wrapped.envelope
    assert await kek.unwrap(1, wrapped.envelope, place_for(1)) == bytearray(KEY)


@all_providers
async def test_two_wrappings_of_one_key_differ(provider: Provider) -> None:
    kek, place_for = await provider.kek(), await provider.place()
    one, other = await kek.wrap(KEY, place_for), await kek.wrap(KEY, place_for)
    assert one.envelope != other.envelope


@all_providers
@pytest.mark.parametrize(
    "parts",
    [
        {"environment": "another"},
        {"owner_type": "organisation"},
        {"owner_id": grace},
        {"data_key_id": UUID(int=2)},
    ],
    ids=lambda parts: next(iter(parts)),
)
async def test_it_unwraps_in_its_place_only(provider: Provider, parts: dict[str, Any]) -> None:
    kek, place_for, elsewhere = (
        await provider.kek(),
        await provider.place(),
        await provider.place(**parts),
    )
    wrapped = await kek.wrap(KEY, place_for)
    with pytest.raises(NotAuthentic):
        await kek.unwrap(1, wrapped.envelope, elsewhere(1))


@all_providers
async def test_a_changed_envelope_does_not_unwrap(provider: Provider) -> None:
    kek, place_for = await provider.kek(), await provider.place()
    envelope = (await kek.wrap(KEY, place_for)).envelope
    last = envelope[:-9] + bytes([envelope[-9] ^ 1]) + envelope[-8:]
    for broken in (b"", b"kv1", envelope[:20], b"kv9" + envelope[3:], last, envelope[:-8]):
        with pytest.raises(NotAuthentic):
            await kek.unwrap(1, broken, place_for(1))


@all_providers
async def test_an_old_version_opens_what_it_wrapped_and_wraps_no_more(provider: Provider) -> None:
    place_for = await provider.place()
    before = await (await provider.kek()).wrap(KEY, place_for)

    provider.rotate()
    kek = await provider.kek()

    assert (await kek.state()).versions == {1: KeyState.RETIRED, 2: KeyState.ACTIVE}
    assert await kek.unwrap(1, before.envelope, place_for(1)) == bytearray(KEY)
    after = await kek.wrap(KEY, place_for)
    assert after.version == 2
    assert await kek.unwrap(2, after.envelope, place_for(2)) == bytearray(KEY)
    with pytest.raises(NotAuthentic):
        await kek.unwrap(1, after.envelope, place_for(1))


@all_providers
async def test_rewrapping_keeps_the_key_and_moves_the_version(provider: Provider) -> None:
    place_for = await provider.place()
    before = await (await provider.kek()).wrap(KEY, place_for)
    provider.rotate()
    kek = await provider.kek()

    after = await kek.rewrap(1, before.envelope, place_for(1), place_for)

    assert after.version == 2
    assert await kek.unwrap(2, after.envelope, place_for(2)) == bytearray(KEY)
    with pytest.raises(NotAuthentic):
        await kek.rewrap(1, after.envelope, place_for(1), place_for)


@pytest.mark.parametrize("is_away", [False, True])
async def test_what_was_unwrapped_to_be_wrapped_anew_is_wiped(is_away: bool) -> None:
    content = bytearray(KEY)
    kek = AsyncMock(spec=KeyEncryption)
    kek.unwrap.return_value = content
    kek.wrap.side_effect = DependencyUnavailable("key_service") if is_away else None
    place = DataKeyPlace("here", "user", ada, UUID(int=1), 1)
    with pytest.raises(DependencyUnavailable) if is_away else nullcontext():
        await rewrapped(kek, 1, b"envelope", place, lambda _: place)
    assert not any(content)


@all_providers
async def test_a_closed_version_opens_nothing(provider: Provider) -> None:
    place_for = await provider.place()
    before = await (await provider.kek()).wrap(KEY, place_for)
    provider.rotate()
    provider.close_first()
    kek = await provider.kek()

    with pytest.raises(KeyringRefused, match="keyring_lacks_a_version"):
        await kek.unwrap(1, before.envelope, place_for(1))
    assert (await kek.state()).usable == [2]


@all_providers
async def test_a_version_that_never_was_is_refused(provider: Provider) -> None:
    kek, place_for = await provider.kek(), await provider.place()
    envelope = (await kek.wrap(KEY, place_for)).envelope
    with pytest.raises(KeyringRefused, match="keyring_lacks_a_version"):
        await kek.unwrap(9, envelope, place_for(9))


@all_providers
async def test_what_stands_right_under_a_key_keeps_its_kind(provider: Provider) -> None:
    kek = await provider.kek()
    canary = await kek.wrap(KEY, lambda version: CanaryPlace("test", version), version=1)
    with pytest.raises(NotAuthentic):
        await kek.unwrap(1, canary.envelope, RootPlace("test", "fingerprint", 1, 1))


@pytest.mark.parametrize(
    "place",
    [
        DataKeyPlace("test", "user", ada, UUID(int=1), 3),
        CanaryPlace("test", 3),
        RootPlace("test", "fingerprint", 1, 3),
    ],
    ids=lambda place: type(place).__name__,
)
def test_a_place_binds_what_its_context_names(place: DataKeyPlace | CanaryPlace) -> None:
    assert place.bound_to == encode_fields(*place.context.values())


UNREACHABLE: dict[str, Answer] = {
    "sealed": (503, {"errors": ["Vault is sealed"], "__type": "ServiceUnavailable"}),
    "failing": (500, {"errors": ["internal error"], "__type": "KMSInternalException"}),
    "busy": (429, {"errors": ["rate limit"], "__type": "ThrottlingException"}),
    "no JSON": (200, "not what anybody expects"),
    "somebody on the way": (400, {"message": "Bad Request"}),
}
REFUSING: dict[str, Answer] = {
    "vault-transit": (403, {"errors": ["permission denied"]}),
    "aws-kms": (400, {"__type": "AccessDeniedException", "message": "no"}),
}


@remote_providers
@pytest.mark.parametrize("name", UNREACHABLE)
async def test_a_key_service_in_trouble_is_no_doubt_about_its_keys(
    provider: Provider, name: str
) -> None:
    kek, place_for = await provider.kek(), await provider.place()
    envelope = (await kek.wrap(KEY, place_for)).envelope
    assert provider.asked is not None

    provider.asked.instead = UNREACHABLE[name]
    with pytest.raises(DependencyUnavailable):
        await kek.unwrap(1, envelope, place_for(1))
    with pytest.raises(DependencyUnavailable):
        await provider.kek()

    provider.asked.instead = None
    assert await kek.unwrap(1, envelope, place_for(1)) == bytearray(KEY)


@pytest.mark.parametrize("name", REMOTE)
async def test_nobody_there_is_told_at_once(name: str, tmp_path: Path) -> None:
    def make() -> KeyService:
        url = "http://127.0.0.1:1"
        if name == "aws-kms":
            return kms(url, {1: "key-one"})
        return transit(url, TransitStandIn(), tmp_path)

    async with open_key_service(
        make, installation="test", timeout_seconds=2, cache_seconds=0
    ) as source:
        with pytest.raises(DependencyUnavailable):
            await source.read()


@remote_providers
async def test_a_key_service_that_hangs_is_given_up(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    kek, place_for = await provider.kek(), await provider.place()
    assert provider.asked is not None
    monkeypatch.setattr(kek._inner, "_timeout_seconds", 0.05)  # type: ignore[attr-defined]
    provider.asked.may_answer.clear()
    with pytest.raises(DependencyUnavailable):
        await kek.wrap(KEY, place_for)


@remote_providers
async def test_no_permission_is_a_refusal(
    provider: Provider, request: pytest.FixtureRequest
) -> None:
    kek, place_for = await provider.kek(), await provider.place()
    assert provider.asked is not None
    provider.asked.instead = REFUSING[kek.name]
    with pytest.raises(KeyringRefused, match="kek_forbidden"):
        await kek.wrap(KEY, place_for)
    with pytest.raises(KeyringRefused, match="kek_forbidden"):
        await provider.kek()


async def test_transit_is_asked_in_its_own_words(tmp_path: Path) -> None:
    vault = TransitStandIn()
    with serving(vault) as url:
        service = transit(url, vault, tmp_path)
        place = DataKeyPlace("test", "user", ada, UUID(int=1), 1)
        ciphertext = service.encrypt(1, KEY, place)
        service.decrypt(1, ciphertext, place)
        service.close()

    assert ciphertext.startswith(b"vault:v1:")
    assert vault.asked.paths == ["/v1/transit/encrypt/companion", "/v1/transit/decrypt/companion"]
    sent, asked_back = vault.asked.bodies
    assert set(sent) == {"plaintext", "associated_data", "key_version"}
    assert set(asked_back) == {"ciphertext", "associated_data"}
    assert all(headers["X-Vault-Token"] == vault.token for headers in vault.asked.headers)


async def test_transits_own_rewrap_would_break_what_is_bound_to_a_place(tmp_path: Path) -> None:
    hvac: Any = import_module("hvac")
    vault = TransitStandIn()
    with serving(vault) as url:
        service = transit(url, vault, tmp_path)
        place = DataKeyPlace("test", "user", ada, UUID(int=1), 1)
        ciphertext = service.encrypt(1, KEY, place).decode()
        client = hvac.Client(url=url, token=vault.token)
        with pytest.raises(hvac.exceptions.InvalidRequest):
            client.secrets.transit.rewrap_data(name="companion", ciphertext=ciphertext)
        client.adapter.close()
        service.close()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            "requested version for encryption is less than the minimum encryption key version",
            "keyring_lacks_a_version",
        ),
        ("encryption key not found", "kek_missing"),
        ("refusing to use soft-deleted key", "kek_disabled"),
    ],
)
async def test_what_transit_says_about_its_key_is_not_said_about_what_it_wrapped(
    tmp_path: Path, said: str, reason: str
) -> None:
    vault = TransitStandIn()
    with serving(vault) as url:
        service = transit(url, vault, tmp_path)
        place = DataKeyPlace("test", "user", ada, UUID(int=1), 1)
        ciphertext = service.encrypt(1, KEY, place)
        vault.asked.instead = (400, {"errors": [said]})
        with pytest.raises(KeyringRefused, match=reason):
            service.encrypt(1, KEY, place)
        with pytest.raises(KeyringRefused, match=reason):
            service.decrypt(1, ciphertext, place)
        service.close()


@pytest.mark.parametrize(
    "answer",
    [
        (400, {"errors": ["a reason that nobody knows"]}),
        (200, {"data": {"ciphertext": "vault:v2:AAAA"}}),
        (200, {"data": {"ciphertext": "AAAA"}}),
        (200, {"data": {}}),
    ],
    ids=str,
)
async def test_a_wrapping_that_came_to_nothing_broke_no_seal(
    tmp_path: Path, answer: Answer
) -> None:
    vault = TransitStandIn()
    with serving(vault) as url:
        async with open_key_service(
            lambda: transit(url, vault, tmp_path),
            installation="test",
            timeout_seconds=2,
            cache_seconds=0,
        ) as source:
            kek = await source.read()
            vault.asked.instead = answer
            with pytest.raises(DependencyUnavailable):
                await kek.wrap(KEY, lambda version: CanaryPlace("test", version))


async def test_a_renewed_token_is_taken_without_a_restart(tmp_path: Path) -> None:
    vault = TransitStandIn()
    with serving(vault) as url:
        service = transit(url, vault, tmp_path)
        vault.token = "hvs.renewed"
        with pytest.raises(KeyringRefused, match="kek_forbidden"):
            service.versions()
        (tmp_path / "token").write_text("hvs.renewed")
        assert service.versions() == {1: KeyState.ACTIVE}
        (tmp_path / "token").unlink()
        with pytest.raises(KeyringRefused, match="kek_credentials_missing"):
            service.versions()
        service.close()


async def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    vault = TransitStandIn(type="rsa-2048")
    with serving(vault) as url:
        service = transit(url, vault, tmp_path)
        with pytest.raises(KeyringRefused, match="kek_unsuitable"):
            service.versions()
        service.close()


async def test_kms_is_asked_in_its_own_words() -> None:
    aws = KmsStandIn(keys={"key-one": bytes(range(32)), "key-two": bytes(range(1, 33))})
    with serving(aws) as url:
        service = kms(url, {1: "key-one", 2: "key-two"})
        place = DataKeyPlace("test", "user", ada, UUID(int=1), 1)
        ciphertext = service.encrypt(1, KEY, place)
        moved = service.reencrypt(1, ciphertext, place, 2, replace(place, kek_version=2))
        assert service.decrypt(2, moved, replace(place, kek_version=2)) == KEY
        service.close()

    assert aws.asked.paths == [
        "TrentService.Encrypt",
        "TrentService.ReEncrypt",
        "TrentService.Decrypt",
    ]
    first, again, _ = aws.asked.bodies
    assert first["EncryptionContext"] == again["SourceEncryptionContext"] == place.context
    assert again["DestinationEncryptionContext"]["kek_version"] == "2"
    for headers in aws.asked.headers:
        assert headers["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
        assert "/eu-central-1/kms/aws4_request" in headers["Authorization"]


async def test_a_key_of_kms_may_wait_until_all_processes_know_it() -> None:
    aws = KmsStandIn(keys={name: bytes(range(32)) for name in ("a", "b", "c")})
    with serving(aws) as url:
        service = AwsKms(
            {1: "a", 2: "b", 3: "c"},
            timeout_seconds=2,
            region="eu-central-1",
            endpoint=url,
            active=2,
        )
        assert service.versions() == {
            1: KeyState.RETIRED,
            2: KeyState.ACTIVE,
            3: KeyState.STANDBY,
        }
        service.close()


async def test_a_disabled_key_is_a_refusal() -> None:
    aws = KmsStandIn(states={"key-one": "Disabled"})
    with serving(aws) as url:
        service = kms(url, {1: "key-one"})
        with pytest.raises(KeyringRefused, match="kek_disabled"):
            service.versions()
        service.close()


async def test_without_the_kit_the_vault_stays_sealed() -> None:
    def make() -> KeyService:
        raise ImportError("No module named 'hvac'", name="hvac")

    async with open_key_service(
        make, installation="test", timeout_seconds=1, cache_seconds=0
    ) as source:
        with pytest.raises(KeyringRefused, match="kek_kit_not_installed"):
            await source.read()


@pytest.mark.parametrize(
    ("content", "environment", "reason"),
    [
        ("{}", "production", "keyring_not_for_production"),
        (None, "development", "keyring_missing"),
        ("", "development", "keyring_missing"),
        ("{", "development", "keyring_malformed"),
        ("[" * 100_000, "development", "keyring_malformed"),
    ],
)
async def test_a_keyring_in_the_environment_is_for_development(
    content: str | None, environment: str, reason: str
) -> None:
    with pytest.raises(KeyringRefused, match=reason):
        await KeyringEnvironment(content, environment=environment).read()
