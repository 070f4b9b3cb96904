"""The effective weight of a filter: taken literally, or computed from how narrow its conditions are.

"[Computes] a value in [0, 2^60) from the conditions" is all that is documented of the automatic weight.  Ours is the
sum, over the fields, of the bits that the conditions fix: a host outweighs its network, a port outweighs a range around
it, one more condition outweighs one less.  Equal sums tie, and ties go to the filter that was added first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from .conditions import FieldTest
from .errors import PolicyCode, error_for
from .values import DataType, Value

__all__ = [
    "AUTOMATIC",
    "AUTO_WEIGHT_BITS",
    "AUTO_WEIGHT_MAX",
    "RANGE_IKE_EXEMPTIONS",
    "RANGE_IPSEC",
    "RANGE_MAX",
    "effective_weight",
    "exact_weight",
    "ranged_weight",
]

AUTO_WEIGHT_BITS: Final = 60
AUTO_WEIGHT_MAX: Final = (1 << 60) - 1
RANGE_MAX: Final = 15
RANGE_IPSEC: Final = 0x0
RANGE_IKE_EXEMPTIONS: Final = 0xC

AUTOMATIC: Final = Value(DataType.EMPTY, None)
# A filter fixes at most two addresses, two ports and a few dozen shorter fields: under 2^20 in 1/256 of a bit.
# The shift leaves that room and uses the rest of the 60 bits, so that weights look as spread as Windows' do.
_SHIFT: Final = 40


def exact_weight(weight: int) -> Value:
    """A weight that is taken as it is (FWP_UINT64)."""
    return Value(DataType.UINT64, weight)


def ranged_weight(index: int) -> Value:
    """An automatic weight within one of the 16 ranges (FWP_UINT8)."""
    return Value(DataType.UINT8, index)


def effective_weight(weight: Value, tests: Iterable[FieldTest]) -> int:
    """The 64-bit number that filters of one sublayer are ordered by.  Raises InvalidPolicy (INVALID_WEIGHT)."""
    data = weight.data
    if weight.type is DataType.EMPTY and data is None:
        return _automatic(tests)
    if weight.type is DataType.UINT64 and isinstance(data, int) and 0 <= data < 1 << 64:
        return data
    if weight.type is DataType.UINT8 and isinstance(data, int) and 0 <= data <= RANGE_MAX:
        return data << AUTO_WEIGHT_BITS | _automatic(tests)
    raise error_for(
        PolicyCode.INVALID_WEIGHT,
        "a weight is EMPTY, a UINT8 of 0 to 15, or a UINT64; see exact_weight and ranged_weight",
    )


def _automatic(tests: Iterable[FieldTest]) -> int:
    return min(sum(test.weight_bits for test in tests) << _SHIFT, AUTO_WEIGHT_MAX)
