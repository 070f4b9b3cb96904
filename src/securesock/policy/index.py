"""Which rules of a layer are for a flow, without looking at each of them.

Tuple space search (Srinivasan, Suri, Varghese 1999), in three stages.
1. Rules that fix the same fields to exact values, and bound the same other fields, have one *shape*; a shape has a
   table from those exact values to a cell of rules.  Shapes are few (which fields people combine), tables are large.
2. Before any table is asked, most shapes are ruled out: for every exact value there is a bit mask of the shapes that
   use it, and the flow's masks are ANDed.  What remains is mostly what matches.
3. A cell is a short list, by rank.  One that grows becomes a SpanTree over the shape's first bounded field, whose cells
   go on with the next field; when no field is left it is split by sublayer, where the first match ends the search.

Adding or removing a rule touches its own keys and paths only.  Knows neither actions nor callouts: it returns, for each
sublayer, the best rule that is sure to decide, and whatever matches and may not.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import product
from operator import itemgetter
from typing import Final, TypeAlias

from .conditions import Key, keys_of_value
from .layers import ABSENT, LayerInfo, Slots
from .rules import Rule
from .spans import SpanTree, blocks_of, is_exact

__all__ = ["LayerIndex"]

# A list this long takes about as long to scan as a tree takes to walk.
_LIST_LIMIT: Final = 16
# Where no bounded field is left, rules of one sublayer hide each other; splitting pays from a few rules on.
_UNSPLIT_LIMIT: Final = 4
_UNUSED: Final = 1 << 128
# Ruling a shape out takes a look-up for each field that any shape fixes; asking it takes one.
_FEW_SHAPES: Final = 8
# Shapes that bound no field have low bits and are asked first: what they find spares many walks through trees.
_FIRST_TREE_BIT: Final = 1 << 64
# Blocks of one rule in a tree, by the depth of the tree: a range of ports has up to 30; nested trees multiply.
_BLOCK_LIMITS: Final = (32, 8, 2)

Cell: TypeAlias = "list[Rule] | _Tree | _Groups"


class _Groups:
    """The rules of one cell by sublayer, each best first: a search stops at the first that holds."""

    __slots__ = ("by_sublayer",)

    def __init__(self) -> None:
        self.by_sublayer: dict[int, list[Rule]] = {}

    def add(self, rule: Rule) -> None:
        _insert(self.by_sublayer.setdefault(rule.sublayer, []), rule)

    def discard(self, rule: Rule) -> None:
        rules = self.by_sublayer[rule.sublayer]
        rules.remove(rule)
        if not rules:
            del self.by_sublayer[rule.sublayer]


class _Tops:
    """Of some cells of a tree: the best rule of each sublayer, which usually is all that needs to be looked at.

    ``tops`` is empty where that is not enough to know: a cell goes on as a tree, or a rule may not hold, or leave the
    decision open.  ``are_sure``: whoever comes here meets every condition of each of them.
    """

    __slots__ = ("are_sure", "cells", "tops")

    def __init__(self, cells: list[Cell], bits: int, depth: int) -> None:
        self.cells: Final = cells
        self.tops: Final = _tops(cells)
        self.are_sure: Final = all(_is_sure(rule, bits, depth) for _, _, rule in self.tops)


class _Tree:
    """A span tree over one place of the flow, and how deep it is nested."""

    __slots__ = ("bits", "depth", "place", "tree")

    def __init__(self, place: int, bits: int, depth: int) -> None:
        self.place = place
        self.bits = bits
        self.depth = depth
        self.tree: SpanTree[Cell, _Tops] = SpanTree(bits, lambda cells: _Tops(cells, bits, depth))

    def blocks(self, rule: Rule) -> tuple[tuple[int, int], ...]:
        return blocks_of(rule.spans[self.depth][1], self.bits, _limit_of(self.depth))


class _Findings:
    """The best of each sublayer so far, by slot: its rank, and the rule."""

    __slots__ = ("maybe", "ranks", "rules", "slots")

    def __init__(self, ranks: list[int], slots: Slots) -> None:
        self.slots: Final = slots
        self.ranks: Final = ranks
        self.rules: Final[list[Rule | None]] = [None] * len(ranks)
        self.maybe: Final[list[Rule]] = []

    def search(self, cell: Cell) -> None:
        """Look at the rules of a cell that could be better than what is known."""
        if isinstance(cell, list):
            self._search_list(cell)
        elif isinstance(cell, _Tree):
            number = self.slots.numbers[cell.place]
            if number != ABSENT:
                self._search_tree(cell.tree.collect(number))
        else:
            for rules in cell.by_sublayer.values():
                self._search_sorted(rules)

    def _search_list(self, rules: list[Rule]) -> None:
        ranks, slots = self.ranks, self.slots
        numbers = slots.numbers
        for rule in rules:
            if rule.rank <= ranks[rule.slot]:
                continue
            for place, low, high in rule.checks:
                if not low <= numbers[place] <= high:
                    break
            else:
                if rule.predicates and not _passes(rule, slots):
                    continue
                if rule.is_terminating:
                    ranks[rule.slot] = rule.rank
                    self.rules[rule.slot] = rule
                else:
                    self.maybe.append(rule)

    def _search_sorted(self, rules: list[Rule]) -> None:
        for rule in rules:
            if rule.rank <= self.ranks[rule.slot]:
                return
            if _holds(rule, self.slots):
                if rule.is_terminating:
                    self.ranks[rule.slot] = rule.rank
                    self.rules[rule.slot] = rule
                    return
                self.maybe.append(rule)

    def _search_tree(self, found: list[_Tops]) -> None:
        ranks, rules = self.ranks, self.rules
        # Longest prefixes first: an automatic weight is higher for them, so that the others need no second look.
        for node in reversed(found):
            tops = node.tops
            if tops and node.are_sure:
                for slot, rank, rule in tops:
                    if rank > ranks[slot]:
                        ranks[slot] = rank
                        rules[slot] = rule
                continue
            is_settled = bool(tops)
            for slot, rank, rule in tops:
                if rank > ranks[slot]:
                    if _holds(rule, self.slots):
                        ranks[slot] = rank
                        rules[slot] = rule
                    else:
                        is_settled = False
            if not is_settled:
                for cell in node.cells:
                    if type(cell) is list:
                        self._search_list(cell)
                    else:
                        self.search(cell)


class _Shape:
    """Rules with the same exact places and the same bounded places."""

    __slots__ = ("bit", "exact", "highest", "key_of", "named", "spans", "table")

    def __init__(self, bit: int, exact: tuple[int, ...], spans: tuple[int, ...], named: tuple[int, ...]) -> None:
        self.bit = bit
        self.exact = exact
        self.spans = spans
        # Places whose values are looked up by several keys; such a shape is asked once per combination.
        self.named = named
        self.key_of = itemgetter(*exact) if len(exact) > 1 else None
        self.table: dict[object, Cell] = {}
        # No rule of this shape has a higher rank; possibly none has one as high, after the best was removed.
        self.highest = -1


class LayerIndex:
    """The rules of one layer."""

    def __init__(self, info: LayerInfo) -> None:
        self._info = info
        self._shapes: dict[int, _Shape] = {}
        self._by_form: dict[tuple[tuple[int, ...], tuple[int, ...]], _Shape] = {}
        self._all = 0
        # By place, for places that some shape uses exactly: value -> mask of shapes, and how often each is used.
        self._masks: dict[int, dict[object, int]] = {}
        self._uses: dict[int, dict[tuple[int | Key, int], int]] = {}
        self._without: dict[int, int] = {}
        # What a search begins with: (place, its masks, the mask of the shapes that do not use it).
        self._number_plan: list[tuple[int, dict[object, int], int]] = []
        self._named_plan: list[tuple[int, int]] = []
        # All shapes in the order of their bits, while there are few: then asking each costs less than ruling out.
        self._few: list[_Shape] | None = []
        self._count = 0
        # By slot: the rank that a search starts with.  A slot without rules starts so high that nobody looks for more.
        self._start_ranks: list[int] = []
        self._slot_uses: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return self._count

    # -- changing -------------------------------------------------------------------------------------------------

    def add(self, rule: Rule) -> None:
        """Put a rule in.  One that can never match is left out."""
        if not rule.is_possible:
            return
        shape = self._shape_of(rule)
        shape.highest = max(shape.highest, rule.rank)
        rule.slot = self._take_slot(rule.sublayer)
        for values in rule.copies():
            key = values if shape.key_of is not None else (values[0] if values else None)
            cell = shape.table.get(key)
            shape.table[key] = [rule] if cell is None else self._grown(cell, rule, 0)
            for place, value in zip(shape.exact, values, strict=True):
                uses = self._uses[place]
                uses[value, shape.bit] = uses.get((value, shape.bit), 0) + 1
                masks = self._masks[place]
                masks[value] = masks.get(value, 0) | shape.bit
        self._count += 1

    def discard(self, rule: Rule) -> None:
        """Take a rule out again; nothing happens if it is not in."""
        shape = self._by_form.get(_form(rule)) if rule.is_possible else None
        if shape is None:
            return
        found = False
        for values in rule.copies():
            key = values if shape.key_of is not None else (values[0] if values else None)
            cell = shape.table.get(key)
            if cell is None or not self._holds_rule(cell, rule):
                continue
            found = True
            if self._shrunk(cell, rule):
                del shape.table[key]
            for place, value in zip(shape.exact, values, strict=True):
                self._release(place, value, shape.bit)
        if found:
            self._count -= 1
            self._free_slot(rule.sublayer)
        if not shape.table:
            self._drop_shape(shape)

    def _take_slot(self, sublayer: int) -> int:
        uses = self._slot_uses.get(sublayer)
        if uses is None:
            free = [slot for slot, rank in enumerate(self._start_ranks) if rank == _UNUSED]
            slot = free[0] if free else len(self._start_ranks)
            self._start_ranks[slot : slot + 1] = [-1]
            uses = self._slot_uses[sublayer] = [slot, 0]
        uses[1] += 1
        return uses[0]

    def _free_slot(self, sublayer: int) -> None:
        uses = self._slot_uses[sublayer]
        uses[1] -= 1
        if not uses[1]:
            self._start_ranks[uses[0]] = _UNUSED
            del self._slot_uses[sublayer]

    def _release(self, place: int, value: int | Key, bit: int) -> None:
        uses = self._uses[place]
        uses[value, bit] -= 1
        if not uses[value, bit]:
            del uses[value, bit]
            masks = self._masks[place]
            masks[value] &= ~bit
            if not masks[value]:
                del masks[value]

    def _shape_of(self, rule: Rule) -> _Shape:
        form = _form(rule)
        shape = self._by_form.get(form)
        if shape is not None:
            return shape
        bit = _FIRST_TREE_BIT if form[1] else 1
        while bit in self._shapes:
            bit <<= 1
        named = tuple(place for place in form[0] if not self._info.kinds[place].bits)
        shape = self._shapes[bit] = self._by_form[form] = _Shape(bit, *form, named)
        self._all |= bit
        for place in form[0]:
            if place not in self._masks:
                self._masks[place] = {}
                self._uses[place] = {}
                self._without[place] = self._all & ~bit
        for place in self._without:
            if place not in form[0]:
                self._without[place] |= bit
        self._plan_search()
        return shape

    def _drop_shape(self, shape: _Shape) -> None:
        del self._shapes[shape.bit]
        del self._by_form[shape.exact, shape.spans]
        self._all &= ~shape.bit
        for place in list(self._without):
            self._without[place] &= ~shape.bit
            if not self._masks[place]:
                del self._masks[place], self._uses[place], self._without[place]
        self._plan_search()

    def _plan_search(self) -> None:
        few = len(self._shapes) <= _FEW_SHAPES
        self._few = [self._shapes[bit] for bit in sorted(self._shapes)] if few else None
        kinds = self._info.kinds
        places = self._without.items()
        self._number_plan = [(place, self._masks[place], without) for place, without in places if kinds[place].bits]
        self._named_plan = [(place, without) for place, without in places if not kinds[place].bits]

    # -- cells ----------------------------------------------------------------------------------------------------

    def _grown(self, cell: Cell, rule: Rule, depth: int) -> Cell:
        """The cell with ``rule`` in it: the same object, or what it has grown into."""
        if isinstance(cell, list):
            is_last = depth == len(rule.spans)
            if len(cell) < (_UNSPLIT_LIMIT if is_last else _LIST_LIMIT):
                _insert(cell, rule)
                return cell
            rules = [*cell, rule]
            if not is_last:
                place = rule.spans[depth][0]
                cell = _Tree(place, self._info.kinds[place].bits, depth)
            else:
                cell = _Groups()
            for each in rules:
                cell = self._grown(cell, each, depth)
            return cell
        if isinstance(cell, _Groups):
            cell.add(rule)
            return cell
        for block in cell.blocks(rule):
            below = cell.tree.find(block)
            cell.tree.put(block, [rule] if below is None else self._grown(below, rule, depth + 1))
        return cell

    def _shrunk(self, cell: Cell, rule: Rule) -> bool:
        """Take ``rule``, which is in it, out of a cell; True when nothing is left."""
        if isinstance(cell, list):
            cell.remove(rule)
            return not cell
        if isinstance(cell, _Groups):
            cell.discard(rule)
            return not cell.by_sublayer
        for block in cell.blocks(rule):
            below = cell.tree.find(block)
            if below is None or self._shrunk(below, rule):  # a rule is in all of its blocks, so there is one
                cell.tree.remove(block)
            else:
                cell.tree.put(block, below)
        return not cell.tree

    def _holds_rule(self, cell: Cell, rule: Rule) -> bool:
        while isinstance(cell, _Tree):
            below = cell.tree.find(cell.blocks(rule)[0])
            if below is None:
                return False
            cell = below
        rules = cell if isinstance(cell, list) else cell.by_sublayer.get(rule.sublayer, [])
        return any(each is rule for each in rules)

    # -- finding --------------------------------------------------------------------------------------------------

    def find(self, slots: Slots) -> tuple[list[Rule], list[Rule]]:
        """(for each sublayer the best rule that is sure to decide; all rules that match and may not decide).

        Of the second only those count that are better than the first of their sublayer; some that are not may be
        left out, and some may stand there twice.
        """
        findings = _Findings(self._start_ranks.copy(), slots)
        for shape in self._few if self._few is not None else self._candidates(slots):
            if shape.spans and shape.highest < min(findings.ranks):
                continue  # nothing there can be better than what is known
            key_of = shape.key_of
            if shape.named:
                for key in self._named_keys(shape, slots):
                    if key in shape.table:
                        findings.search(shape.table[key])
                continue
            if key_of is not None:
                cell = shape.table.get(key_of(slots))
            else:
                cell = shape.table.get(slots[shape.exact[0]] if shape.exact else None)
            if cell is not None:
                findings.search(cell)
        return list(filter(None, findings.rules)), findings.maybe

    def _candidates(self, slots: Slots) -> Iterator[_Shape]:
        """The shapes that have something under each of the flow's exact values."""
        mask = self._all
        for place, masks, without in self._number_plan:
            mask &= masks.get(slots[place], 0) | without
        for place, without in self._named_plan:
            if mask & ~without:
                mask &= self._named_mask(place, slots) | without
        while mask:
            bit = mask & -mask
            mask ^= bit
            yield self._shapes[bit]

    def _named_keys(self, shape: _Shape, slots: Slots) -> Iterable[object]:
        """Every combination of the keys that the flow's identities are looked up by; none without them."""
        if any(slots[place] is None for place in shape.named):
            return ()
        choices = [self._keys_at(place, slots) if place in shape.named else [slots[place]] for place in shape.exact]
        return (key if len(key) > 1 else key[0] for key in product(*choices))

    def _keys_at(self, place: int, slots: Slots) -> list[Key]:
        value = slots[place]
        if value is None:
            return []
        masks = self._masks[place]
        return [key for key in keys_of_value(self._info.kinds[place], value) if key in masks]

    def _named_mask(self, place: int, slots: Slots) -> int:
        mask = 0
        for key in self._keys_at(place, slots):
            mask |= self._masks[place][key]
        return mask


def _limit_of(depth: int) -> int:
    return _BLOCK_LIMITS[min(depth, len(_BLOCK_LIMITS) - 1)]


def _form(rule: Rule) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return rule.places, tuple(place for place, _ in rule.spans)


def _insert(rules: list[Rule], rule: Rule) -> None:
    rules.insert(bisect_left(rules, -rule.rank, key=lambda each: -each.rank), rule)


def _is_sure(rule: Rule, bits: int, depth: int) -> bool:
    """Whether everything that ``rule`` asks for is asked by the way to its cell: its key, and its blocks."""
    return not rule.predicates and len(rule.checks) == 1 and is_exact(rule.spans[depth][1], bits, _limit_of(depth))


def _tops(cells: list[Cell]) -> tuple[tuple[int, int, Rule], ...]:
    """(slot, rank, rule) of the best rule of each sublayer; nothing if that does not settle these cells."""
    best: dict[int, Rule] = {}
    for cell in cells:
        if isinstance(cell, _Tree):
            return ()
        # What follows a terminating rule in a sorted list of its sublayer is hidden by it.
        for rule in cell if isinstance(cell, list) else [rules[0] for rules in cell.by_sublayer.values()]:
            if not rule.is_terminating or rule.predicates or len(rule.spans) > 1:
                return ()
            known = best.get(rule.slot)
            if known is None or rule.rank > known.rank:
                best[rule.slot] = rule
    return tuple((slot, rule.rank, rule) for slot, rule in best.items())


def _holds(rule: Rule, slots: Slots) -> bool:
    numbers = slots.numbers
    for place, low, high in rule.checks:
        if not low <= numbers[place] <= high:
            return False
    return not rule.predicates or _passes(rule, slots)


def _passes(rule: Rule, slots: Slots) -> bool:
    for place, predicate in rule.predicates:
        value = slots[place]
        if value is None or not predicate(value):
            return False
    return True
