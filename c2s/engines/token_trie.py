"""A trie of items that are several tokens each, in flat arrays: names, words, codes, as a tokenizer spells them.

An item at the head of an answer may be spelled otherwise than one that follows another (``CD3D`` and `` CD3D``), so a trie
has up to two roots over the same items. The children of a node stand side by side, in the order of their tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from c2s.errors import ConfigError


class TokenTrie:
    """The token sequences of items, shared prefixes stored once.

    Parameters
    ----------
    items : sequence of token sequences
        Each item as it follows another one, its delimiter included. An item may be a prefix of another.
    first : sequence of token sequences, optional
        Each item as it stands at the beginning, in the same order; by default as in ``items``.

    Attributes
    ----------
    n_items : int
    follow, head : int
        Root of ``items`` (0), and root of ``first`` (1, or 0 without it).
    token, parent, depth, start, stop, item, size : ndarray, shape (n_nodes,), int32
        Of each node: the token that leads to it and the node it leads from (-1 at a root); tokens from the root; its
        children are the nodes ``start`` to ``stop``; the item that ends here or -1; how many items end here or below.
    ends : ndarray, shape (n_items, n_roots), int32
        Where each item ends.
    top : ndarray, shape (n_items,), int32
        The child of ``follow`` that each item goes through.

    Raises
    ------
    ConfigError
        No items, an item without tokens or with a negative one, two items of the same tokens, or an item that may go on
        with a token that begins another item: then ``A`` and ``BC`` could be read as ``AB`` and ``C``. With a delimiter
        at the head of every item there is no such pair.
    """

    def __init__(self, items: Sequence[Sequence[int]], *, first: Sequence[Sequence[int]] | None = None) -> None:
        spellings = [items] if first is None else [items, first]
        if not len(items) or len(spellings[-1]) != len(items):
            msg = f"a trie needs at least one item and each once; found {len(items)}, of which {len(spellings[-1])} have a first form"
            raise ConfigError(msg)
        self.n_items, self.follow, self.head = len(items), 0, len(spellings) - 1
        children: list[dict[int, int]] = [{} for _ in spellings]
        ended: dict[int, int] = {}
        ends = np.empty((len(items), len(spellings)), np.int32)
        for root, spelling in enumerate(spellings):
            for i, tokens in enumerate(spelling):
                if not len(tokens) or min(tokens) < 0:
                    msg = f"item {i} is {list(tokens)}; an item is one token or more, none negative"
                    raise ConfigError(msg)
                node = root
                for token in tokens:
                    node = children[node].setdefault(int(token), len(children))
                    if node == len(children):
                        children.append({})
                if node in ended:
                    msg = f"items {ended[node]} and {i} are the same tokens, {list(tokens)}; an item must be told from every other"
                    raise ConfigError(msg)
                ended[node] = i
                ends[i, root] = node
        self._flatten(children, ended, ends)
        self._refuse_ambiguity()

    @property
    def n_nodes(self) -> int:
        """Number of nodes, roots included."""
        return len(self.token)

    def children(self, node: int) -> np.ndarray:
        """Return the tokens that lead on from ``node``, ascending, int32."""
        return self.token[self.start[node] : self.stop[node]]

    def spelling(self, i: int, root: int | None = None) -> list[int]:
        """Return the tokens of item ``i`` below ``root`` (:attr:`follow` by default)."""
        node, tokens = int(self.ends[i, self.follow if root is None else root]), []
        while self.parent[node] >= 0:
            tokens.append(int(self.token[node]))
            node = int(self.parent[node])
        return tokens[::-1]

    def _flatten(self, children: list[dict[int, int]], ended: dict[int, int], ends: np.ndarray) -> None:
        """Write the nodes into arrays, breadth first, so that children stand side by side; count items from the leaves up."""
        n, n_roots = len(children), self.head + 1
        order = list(range(n_roots))
        self.token, self.parent, self.item = (np.full(n, -1, np.int32) for _ in range(3))
        self.depth, self.start, self.stop, self.size = (np.zeros(n, np.int32) for _ in range(4))
        for node, built in enumerate(order):
            self.start[node] = len(order)
            for token, child in sorted(children[built].items()):
                self.token[len(order)], self.parent[len(order)], self.depth[len(order)] = (
                    token,
                    node,
                    self.depth[node] + 1,
                )
                order.append(child)
            self.stop[node] = len(order)
            self.item[node] = ended.get(built, -1)
        for node in range(n - 1, -1, -1):
            self.size[node] += self.item[node] >= 0
            if self.parent[node] >= 0:
                self.size[self.parent[node]] += self.size[node]
        number = np.empty(n, np.int32)
        number[order] = np.arange(n, dtype=np.int32)
        self.ends = number[ends]
        self.top = self.ends[:, self.follow].copy()
        while (below := self.parent[self.top] != self.follow).any():
            self.top[below] = self.parent[self.top[below]]

    def _refuse_ambiguity(self) -> None:
        begins = set(self.children(self.follow).tolist())
        for node in np.flatnonzero((self.item >= 0) & (self.stop > self.start)):
            if both := begins & set(self.children(int(node)).tolist()):
                token = min(both)
                child = int(self.start[node] + np.searchsorted(self.children(int(node)), token))
                longer, other = self._item_below(child), self._item_below_root(token)
                i = int(self.item[node])
                msg = (
                    f"item {i}, {self.spelling(i)}, may go on with token {token} to item {longer}, {self.spelling(longer)}, or be "
                    f"followed by item {other}, {self.spelling(other)}: the two could not be told apart. Put a delimiter, "
                    "which nothing goes on with, at the head of every item"
                )
                raise ConfigError(msg)

    def _item_below_root(self, token: int) -> int:
        return self._item_below(int(self.start[self.follow] + np.searchsorted(self.children(self.follow), token)))

    def _item_below(self, node: int) -> int:
        """Return an item that ends at ``node`` or below."""
        while self.item[node] < 0:
            node = int(self.start[node])
        return int(self.item[node])
