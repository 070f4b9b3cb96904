"""Policy documents from anybody: they are read, or refused as LocalMisuse; what was read is written the same again."""

from __future__ import annotations

import copy
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.policy_set import filters
from securesock.errors import LocalMisuse
from securesock.policy.builtin import BUILT_IN_OBJECTS
from securesock.policy.document import SECTIONS, describe, read_document, write_document
from securesock.policy.fields import Field
from securesock.policy.layers import Layer
from securesock.policy.model import PolicyObject
from securesock.policy.values import MatchType
from securesock.types import Json

WORDS = ["name", "kind", "IkePolicy", "GENERAL", "x", "", "10.0.0.0/8", "::1", "00", "host/*.example", "\ud800"]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats()
    | st.sampled_from(WORDS + [each.name for each in (*Layer, *Field, *MatchType)])
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=3),
    max_leaves=8,
)


def alone(item: PolicyObject) -> dict[str, Json]:
    """A document with one object."""
    section = next(name for name, kind in SECTIONS.items() if type(item) is kind)
    document: dict[str, Json] = json.loads(json.dumps(write_document({section: [item]}, with_secrets=True)))
    return document


def paths(data: Json, here: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The way to everything in a document."""
    found = [here]
    if isinstance(data, dict):
        for name, value in data.items():
            found += paths(value, (*here, name))
    elif isinstance(data, list):
        for number, value in enumerate(data):
            found += paths(value, (*here, number))
    return found


PLACES = [
    (document, path) for document in map(alone, [*BUILT_IN_OBJECTS, *filters(30)]) for path in paths(document) if path
]


@settings(max_examples=300)
@given(st.sampled_from(PLACES), ANYTHING)
def test_a_document_with_anything_in_any_place_is_read_or_refused(
    place: tuple[dict[str, Json], tuple[str | int, ...]], put: Json
) -> None:
    document, path = copy.deepcopy(place)
    inside = document
    for step in path[:-1]:
        inside = inside[step]
    inside[path[-1]] = put
    check_document(document)


@settings(max_examples=300)
@given(ANYTHING | st.dictionaries(st.sampled_from([*SECTIONS, "x"]), st.lists(ANYTHING, max_size=2)))
def test_anything_at_all_is_read_or_refused(document: Json) -> None:
    check_document(document)


def check_document(document: Json) -> None:
    try:
        items = read_document(document)
    except LocalMisuse:
        return
    again = read_document(json.loads(json.dumps(write_document(items, with_secrets=True))))
    assert again == items
    for listed in items.values():
        for each in listed:
            assert isinstance(describe(each), dict)
