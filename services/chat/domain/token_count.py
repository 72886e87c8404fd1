"""How many tokens a text has at most, about: counted by rule, with no vendor's table at hand.

Vendors' tokenizers differ, change with the model and can't be asked before each turn. A window that
is counted too small forgets a little early; one that is counted too large is refused by the vendor.
So this counts rather too many:

- four letters of a word are a token, the last of them may have fewer (vendors' English has about
  six; words of other languages, names in code and base64 have fewer). A capital begins one, and is
  one by itself before less than two small letters, which is what makes base64 dear;
- each digit, each punctuation mark and each line break is one (vendors join some of them);
- spaces are free between words, one token before a digit and one for each two to five in a row;
- a character beyond ASCII is one token less than its bytes in UTF-8: one for é and я, two for 漢,
  three for 🙂. A tokenizer that works on bytes has at most one token more for it.

A text never has more tokens than bytes, and never fewer than a fifth of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from hashlib import blake2b
from secrets import token_bytes

import orjson

from services.chat.domain.content import Tool, Utterance

MOST_BYTES_PER_TOKEN = 5

_TOKENS_PER_UTTERANCE = 8  # role and separators
_TOKENS_PER_TOOL = 16
# Of a picture of about two megapixels; vendors scale larger ones down.
TOKENS_PER_IMAGE = 2_000


def _kind(byte: int) -> str:
    """Small or capital letter, digit, blank, tab, part of a character beyond ASCII, or a sign."""
    if byte >= 128:
        return "x"
    character = chr(byte)
    if character.isalpha():
        return "a" if character.islower() else "A"
    if character.isdigit():
        return "0"
    return character if character in " \t" else "."


_KINDS = "".join(map(_kind, range(256))).encode()
_LETTERS_ALONE = bytes(kind if kind == ord("a") else ord(" ") for kind in range(256))
# What is one token, the longest first; the words' small letters are counted by their number.
_JOINED = (
    *(b"Aaaa", b"Aaa"),
    *(b" " * length for length in (5, 4, 3, 2)),
    *(b"\t" * length for length in (4, 3, 2, 1)),
)
_TOKEN = b"T"
_COUNTED = (_TOKEN, b"A", b"0", b".", b" 0")
_LETTERS_PER_TOKEN = 4
# So many counts are remembered, some 2 MB, since what was said before is counted again with each
# question that follows. No text is kept, but its digest under a key of this process: nobody can
# make two texts of one digest, nor tell from a digest what was said.
_MOST_REMEMBERED = 20_000
_remembered: dict[bytes, int] = {}
_digesting = blake2b(key=token_bytes(32), digest_size=16)
# From how many characters on a text is looked at in pieces only, in how many, and how long ones.
_LONG_TEXT, _PIECES, _PIECE = 8_192, 16, 128


def count_tokens(text: str) -> int:
    """At most about so many tokens. Nothing here is done token by token: a kilobyte takes some
    thirty microseconds."""
    encoded = text.encode("utf-8", "surrogatepass")
    kinds = encoded.translate(_KINDS)
    for joined in _JOINED:
        kinds = kinds.replace(joined, _TOKEN)
    lengths = Counter(map(len, kinds.translate(_LETTERS_ALONE).split()))
    words = sum(-(-length // _LETTERS_PER_TOKEN) * many for length, many in lengths.items())
    return words + sum(map(kinds.count, _COUNTED)) + len(encoded) - len(text)


def count_again(text: str) -> int:
    """`count_tokens` of a text that may have been counted a short while ago."""
    digest = _digest_of(text)
    tokens = _remembered.get(digest)
    if tokens is None:
        if len(_remembered) >= _MOST_REMEMBERED:
            _remembered.clear()
        tokens = _remembered[digest] = count_tokens(text)
    return tokens


def _digest_of(text: str) -> bytes:
    digesting = _digesting.copy()
    digesting.update(text.encode("utf-8", "surrogatepass"))
    return digesting.digest()


def about_tokens(text: str) -> int:
    """As `count_tokens`, but of a long text only some pieces are looked at, spread over all of it.
    Prose and code come out within some hundredths; a text that is of one kind where it is looked at
    and of another between, does not."""
    length = len(text)
    if length < _LONG_TEXT:
        return count_tokens(text)
    stride = (length - _PIECE) // (_PIECES - 1)
    sample = "\n".join([text[at : at + _PIECE] for at in range(0, stride * _PIECES, stride)])
    return -(-count_tokens(sample) * length // (_PIECES * _PIECE))


def most_tokens(text: str) -> int:
    """What `count_tokens` does not exceed, without looking at each character."""
    return _size(text)


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def most_tokens_of(utterances: Iterable[Utterance]) -> int:
    """Of all of them: quick, and no less than the exact count."""
    most = 0
    for one in utterances:
        if one.parts or one.tool_calls or one.tool_results or one.thoughts:
            most += _tokens_of(one, most_tokens)
        else:
            # As nearly always, and of these there may be a hundred.
            text = one.content
            most += _TOKENS_PER_UTTERANCE + (len(text) if text.isascii() else most_tokens(text))
    return most


def tokens_of(utterance: Utterance) -> int:
    """Of all that an utterance holds."""
    return _tokens_of(utterance, count_again)


def about_tokens_of(utterance: Utterance) -> int:
    """The same by `about_tokens`, however long it is."""
    return _tokens_of(utterance, about_tokens)


def _tokens_of(utterance: Utterance, count: Callable[[str], int]) -> int:
    if not utterance.is_more_than_text:
        return _TOKENS_PER_UTTERANCE + count(utterance.content)
    return (
        _TOKENS_PER_UTTERANCE
        + count(utterance.content)
        + TOKENS_PER_IMAGE * len(utterance.images)
        + sum(
            _TOKENS_PER_UTTERANCE + count(call.name) + count(call.arguments)
            for call in utterance.tool_calls
        )
        + sum(_TOKENS_PER_UTTERANCE + count(r.content) for r in utterance.tool_results)
        + sum(most_tokens(orjson.dumps(t.block).decode()) // 2 for t in utterance.thoughts)
    )


def tokens_of_tool(tool: Tool, count: Callable[[str], int] = count_tokens) -> int:
    """Of a tool's description."""
    schema = orjson.dumps(tool.parameters).decode() if tool.parameters else ""
    return _TOKENS_PER_TOOL + count(tool.name) + count(tool.description or "") + count(schema)
