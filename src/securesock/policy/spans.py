"""Runs of numbers, found by one number that lies in them: blocks of powers of two in a tree of bytes.

Every interval of W-bit numbers is a union of at most 2W - 2 blocks, each the numbers with a common prefix; a network is
one block, a range of ports some.  The blocks that hold a number are the prefixes of that number, at most W + 1.  A
SpanTree keeps things by block.  Its nodes cover eight bits each: a node knows its 255 possible blocks by number (1 for
all, 2 and 3 for the halves ...) and which of them are present as bits of one integer, so that all present prefixes of a
byte are found by one AND with a constant of that byte (the Tree Bitmap of Eatherton, Varghese and Dittia, 2004).
What a searcher makes of the items found in one node is kept there by byte until that node changes, so that a node near
the root, full of short prefixes, is gone through once and not for every flow.
Adding and removing touch one path.  Knows no filters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

from .conditions import Interval

__all__ = ["Block", "SpanTree", "blocks_of", "is_exact"]

Block = tuple[int, int]
"""(how many leading bits, their value)."""

Item = TypeVar("Item")
Summary = TypeVar("Summary")


def blocks_of(intervals: tuple[Interval, ...], bits: int, limit: int) -> tuple[Block, ...]:
    """At most ``limit`` blocks that together hold every number of ``intervals``, without overlap.

    Exactly those numbers if that takes no more blocks, else some more: the ends are moved outwards to multiples of ever
    larger powers of two until few enough remain.  ``limit`` is at least 1.
    """
    shift = 0
    while True:
        blocks = list(_split(_widened(intervals, shift), bits))
        if len(blocks) <= limit:
            return tuple(blocks)
        shift += 1


def is_exact(intervals: tuple[Interval, ...], bits: int, limit: int) -> bool:
    """Whether blocks_of() with these arguments gives these numbers and no others."""
    return sum(1 << bits - length for length, _ in blocks_of(intervals, bits, limit)) == sum(
        high - low + 1 for low, high in intervals
    )


def _widened(intervals: tuple[Interval, ...], shift: int) -> list[Interval]:
    widened: list[Interval] = []
    for low, high in intervals:
        low, high = low >> shift << shift, (high >> shift << shift) | (1 << shift) - 1
        if widened and low <= widened[-1][1] + 1:
            widened[-1] = (widened[-1][0], high)
        else:
            widened.append((low, high))
    return widened


def _split(intervals: list[Interval], bits: int) -> Iterator[Block]:
    for first, high in intervals:
        low = first
        while low <= high:
            # The largest block that begins at low and does not reach beyond high.
            size = (low & -low).bit_length() - 1 if low else bits
            size = min(size, (high - low + 1).bit_length() - 1)
            yield bits - size, low >> size
            low += 1 << size


class _Node(Generic[Item, Summary]):
    __slots__ = ("children", "items", "present", "summaries")

    def __init__(self) -> None:
        self.present = 0
        self.items: dict[int, Item] = {}
        self.children: dict[int, _Node[Item, Summary]] = {}
        self.summaries: dict[int, Summary] = {}


def _path_bits(byte: int) -> int:
    # The block of the first n bits of a byte has number 2^n + those bits; n is 0 to 7, 8 is the child's whole.
    return sum(1 << (1 << length | byte >> 8 - length) for length in range(8))


_PATHS: Final = tuple(_path_bits(byte) for byte in range(256))


class SpanTree(Generic[Item, Summary]):
    """Items by block of ``bits``-bit numbers (a multiple of 8).

    ``summarize`` makes of the items of one node, longest prefix first, what a search wants to know of them.  An item
    that is changed in place is put again, so that no stale summary stays.
    """

    __slots__ = ("_bits", "_root", "_summarize", "_whole")

    def __init__(self, bits: int, summarize: Callable[[list[Item]], Summary]) -> None:
        self._bits = bits
        self._summarize = summarize
        self._root: _Node[Item, Summary] = _Node()
        self._whole: dict[int, tuple[Item, Summary]] = {}

    def __bool__(self) -> bool:
        return bool(self._whole or self._root.present or self._root.children)

    def find(self, block: Block) -> Item | None:
        """The item kept at exactly this block."""
        length, prefix = block
        if length == self._bits:
            kept = self._whole.get(prefix)
            return None if kept is None else kept[0]
        node: _Node[Item, Summary] | None = self._root
        for byte in _bytes_of(length, prefix):
            if node is None:
                return None
            node = node.children.get(byte)
        return None if node is None else node.items.get(_bit(length, prefix))

    def put(self, block: Block, item: Item) -> None:
        """Keep ``item`` at a block, in place of what was there."""
        length, prefix = block
        if length == self._bits:
            self._whole[prefix] = item, self._summarize([item])
            return
        node = self._root
        for byte in _bytes_of(length, prefix):
            child = node.children.get(byte)
            if child is None:
                child = node.children[byte] = _Node()
            node = child
        bit = _bit(length, prefix)
        node.items[bit] = item
        node.present |= bit
        node.summaries.clear()

    def remove(self, block: Block) -> None:
        """Forget what is kept at a block, and the nodes that it alone needed.  KeyError if nothing is."""
        length, prefix = block
        if length == self._bits:
            del self._whole[prefix]
            return
        path = _bytes_of(length, prefix)
        nodes = [self._root]
        for byte in path:
            nodes.append(nodes[-1].children[byte])
        bit = _bit(length, prefix)
        del nodes[-1].items[bit]
        nodes[-1].present ^= bit
        nodes[-1].summaries.clear()
        for parent, byte in zip(reversed(nodes[:-1]), reversed(path), strict=True):
            child = parent.children[byte]
            if child.present or child.children:
                return
            del parent.children[byte]

    def collect(self, number: int) -> list[Summary]:
        """The summaries of all blocks that hold ``number``, shortest prefixes first."""
        found: list[Summary] = []
        paths = _PATHS
        shift = self._bits
        node: _Node[Item, Summary] | None = self._root
        while node is not None:
            shift -= 8
            byte = number >> shift & 255
            if node.present and node.present & paths[byte]:
                summary = node.summaries.get(byte)
                if summary is None:
                    summary = node.summaries[byte] = self._summary(node, byte)
                found.append(summary)
            node = node.children.get(byte)
        if self._whole:
            whole = self._whole.get(number)
            if whole is not None:
                found.append(whole[1])
        return found

    def _summary(self, node: _Node[Item, Summary], byte: int) -> Summary:
        present = node.present & _PATHS[byte]
        items: list[Item] = []
        while present:
            bit = 1 << present.bit_length() - 1
            present ^= bit
            items.append(node.items[bit])
        return self._summarize(items)


def _bytes_of(length: int, prefix: int) -> bytes:
    """The whole bytes of a prefix: the way from the root to its node."""
    return (prefix >> length % 8).to_bytes(length // 8)


def _bit(length: int, prefix: int) -> int:
    """The bit of a block within its node: of number 2^n + its last n = length % 8 bits."""
    spare = length % 8
    return 1 << (1 << spare | prefix & (1 << spare) - 1)
