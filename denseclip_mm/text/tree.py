"""Many prompts as one sequence that is a tree.

Attention in CLIP's text tower is causal, so a token's state depends on the tokens before it and on
nothing else. Prompts that begin alike share those states; the tree holds every distinct prefix
once. A token sees its ancestors and itself, its position is its depth, and a prompt's embedding is
read at its last token. 150 ADE20K names behind 8 learned contexts are 342 tokens instead of
150 x 13 (padded to the longest name) or 150 x 77 (CLIP's own length).

Shapes: P prompts, T tokens of the tree.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class TokenTree(nn.Module):
    """A tree of symbols, as tensors that move with the model.

    Attributes:
        symbols: (T,) symbol of each token: a vocabulary id, or an id past the vocabulary that
            stands for a learned vector.
        depth: (T,) distance to the root, which is the position in the prompt.
        leaves: (P,) the last token of each prompt.
        paths: (P, length) the tokens of each prompt, first to last; -1 past its end.
        mask: (T, T) additive attention mask: 0 where the row may attend to the column (an
            ancestor or itself), -inf elsewhere.
        length: tokens of the longest prompt.

    Args:
        prompts: the symbols of each prompt, first to last.

    Examples:
        >>> tree = TokenTree([[1, 5, 6, 2], [1, 5, 7, 2]])  # two prompts share 1, 5
        >>> tree.symbols.tolist(), tree.depth.tolist(), tree.leaves.tolist()
        ([1, 5, 6, 2, 7, 2], [0, 1, 2, 3, 2, 3], [3, 5])
    """

    symbols: Tensor
    depth: Tensor
    leaves: Tensor
    paths: Tensor
    mask: Tensor

    def __init__(self, prompts: Sequence[Sequence[int]]) -> None:
        super().__init__()
        token_of: dict[tuple[int, int], int] = {}
        parents: list[int] = []
        symbols: list[int] = []
        depth: list[int] = []
        paths: list[list[int]] = []
        for prompt in prompts:
            token = -1
            path = []
            for position, symbol in enumerate(prompt):
                parent, token = token, token_of.setdefault((token, symbol), len(symbols))
                if token == len(symbols):
                    parents.append(parent)
                    symbols.append(symbol)
                    depth.append(position)
                path.append(token)
            paths.append(path)

        sees = torch.eye(len(symbols), dtype=torch.bool)
        for token, parent in enumerate(parents):
            if parent >= 0:  # parents come before their children
                sees[token] |= sees[parent]
        self.length = max(depth) + 1
        self.register_buffer('symbols', torch.tensor(symbols), persistent=False)
        self.register_buffer('depth', torch.tensor(depth), persistent=False)
        self.register_buffer('leaves', torch.tensor([path[-1] for path in paths]),
                             persistent=False)
        self.register_buffer('paths', torch.tensor(
            [path + [-1] * (self.length - len(path)) for path in paths]), persistent=False)
        self.register_buffer(
            'mask', torch.zeros(sees.shape).masked_fill_(~sees, float('-inf')), persistent=False)

    def __len__(self) -> int:
        """T, the number of tokens."""
        return len(self.symbols)


def grow_trees(prompts: Sequence[Sequence[int]], max_tokens: int = 512) -> nn.ModuleList:
    """Cut a large vocabulary into trees, so that no attention mask outgrows max_tokens squared.

    Args:
        prompts: the symbols of each prompt.
        max_tokens: tokens of a tree at most (a single longer prompt makes a tree of its own).

    Returns:
        Trees whose leaves, one tree after the other, are the prompts in their order.

    Examples:
        >>> prompts = [[1, 5, 6, 2], [1, 5, 7, 2], [1, 8, 2]]
        >>> [len(tree) for tree in grow_trees(prompts, max_tokens=6)]
        [6, 3]
    """
    trees = nn.ModuleList()
    prefixes: set[tuple[int, ...]] = set()
    chunk: list[Sequence[int]] = []
    for prompt in prompts:
        own = {tuple(prompt[:end]) for end in range(1, len(prompt) + 1)}
        if chunk and len(prefixes | own) > max_tokens:
            trees.append(TokenTree(chunk))
            prefixes, chunk = set(), []
        prefixes |= own
        chunk.append(prompt)
    trees.append(TokenTree(chunk))
    return trees
