"""What a ref is called, as a record and as text."""

from __future__ import annotations

import pytest

from stockroom.errors import InvalidInputError
from stockroom.refs.ref import parse_ref


@pytest.mark.parametrize("text", ["main", "", "thing/main"])
def test_a_ref_of_no_kind_is_refused(text):
    with pytest.raises(InvalidInputError, match="branch/main"):
        parse_ref(text)


@pytest.mark.parametrize("text", ["branch/main", "tag/v1", "remote/origin/topic/one"])
def test_a_ref_reads_back_as_its_text(text):
    ref = parse_ref(text)
    assert f"{ref}" == str(ref) == text
    assert (ref.kind, ref.name) == tuple(text.split("/", 1))
