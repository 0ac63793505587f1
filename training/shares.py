"""Which part of a step's packs each process runs.

Every process runs as many passes as every other, because they wait for each other in each; the packs of a step
go round whole, and those that are left over are cut between conversations. Conversations of a pack do not see
one another, so a cut pack computes what the whole one does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from training.packing import Pack
from training.world import World


@dataclass(frozen=True)
class Share:
    """One forward and backward pass of a process; an idle one keeps the others company and counts for nothing."""

    pack: Pack
    is_idle: bool = False


class Shares:
    """Deals packs to one process of a group, giving the same part of a pack as the same object every time."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._parts: dict[tuple[int, int, int], Pack] = {}

    def of(self, packs: Sequence[Pack]) -> list[Share]:
        """Return this process's passes over a step's packs."""
        rank, size = self._world.rank, self._world.size
        num_rounds, num_left = divmod(len(packs), size)
        shares = [Share(packs[number * size + rank]) for number in range(num_rounds)]
        if num_left:
            # The processes stand in a row under the packs that are left: each under one of them.
            number = rank * num_left // size
            members = [other for other in range(size) if other * num_left // size == number]
            left = packs[num_rounds * size + number]
            shares.append(self._part(left, members.index(rank), len(members)))
        return shares

    def _part(self, pack: Pack, place: int, of: int) -> Share:
        if of == 1:
            return Share(pack)
        key = (id(pack), place, of)
        first, last = _cut(pack.lengths[1:], place, of)
        if key not in self._parts:
            self._parts[key] = (
                conversations_of(pack, first, last) if first < last else conversations_of(pack, 0, 1)
            )
        return Share(self._parts[key], is_idle=first == last)


def _cut(lengths: Sequence[int], place: int, of: int) -> tuple[int, int]:
    """Return the first conversation, and the one after the last, of part `place`; parts hold about equal tokens."""
    total, before, edges = sum(lengths), 0, [0]
    for number, length in enumerate(lengths):
        # A conversation goes where its middle lies.
        while len(edges) < of and (before + length / 2) * of >= len(edges) * total:
            edges.append(number)
        before += length
    edges += [len(lengths)] * (of + 1 - len(edges))
    return edges[place], edges[place + 1]


def conversations_of(pack: Pack, first: int, last: int) -> Pack:
    """Return the pack of conversations `first` to `last` (not included) of a pack, with its shared prefix."""
    prefix = pack.lengths[0]
    start = prefix + sum(pack.lengths[1 : first + 1])
    stop = start + sum(pack.lengths[first + 1 : last + 1])
    kept = [*range(prefix), *range(start, stop)]
    chosen = (pack.predicting >= start) & (pack.predicting < stop)
    segments = pack.segments[kept]
    num_examples = last - first
    return replace(
        pack,
        ids=pack.ids[:, kept],
        positions=pack.positions[:, kept],
        segments=segments.where(segments == 0, segments - first),
        predicting=pack.predicting[chosen] - (start - prefix),
        labels=pack.labels[chosen],
        num_example_tokens=num_examples * prefix + stop - start,
        lengths=(prefix, *pack.lengths[first + 1 : last + 1]),
    )
