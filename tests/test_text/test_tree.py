"""The token tree: layout by hand, mask against prefixes, and trees cut to size."""

import math

from denseclip_mm.models.vocabulary import read_class_names
from denseclip_mm.text import CLIPTextTower, LearnedContext, TokenTree, grow_trees

import pytest
import torch

NO = -math.inf
START, END = 90, 91


def random_prompts(count: int, seed: int = 0) -> list[list[int]]:
    """Prompts over a small alphabet, so that they share prefixes of every length."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, 7, (count, ), generator=generator).tolist()
    return [[START, *torch.randint(0, 3, (length, ), generator=generator).tolist(), END]
            for length in lengths]


def prefixes_of(prompts: list[list[int]]) -> list[tuple[int, ...]]:
    """Distinct prefixes in the order in which prompts first show them."""
    return list(dict.fromkeys(
        tuple(prompt[:end]) for prompt in prompts for end in range(1, len(prompt) + 1)))


def paths(tree: TokenTree) -> list[list[int]]:
    """The prompts that a tree spells: what each leaf sees, in the order of depth."""
    spelled = []
    for leaf in tree.leaves:
        seen = (tree.mask[leaf] == 0).nonzero()[:, 0]
        assert tree.depth[seen].sort().values.tolist() == list(range(len(seen)))
        spelled.append(tree.symbols[seen[tree.depth[seen].argsort()]].tolist())
    return spelled


@pytest.mark.parametrize(('prompts', 'symbols', 'depth', 'leaves', 'mask'), [
    pytest.param(
        [[7]], [7], [0], [0], [[0]], id='one token'),
    pytest.param(
        [[90, 5, 91], [90, 6, 91]],
        [90, 5, 91, 6, 91], [0, 1, 2, 1, 2], [2, 4],
        [[0, NO, NO, NO, NO],
         [0, 0, NO, NO, NO],
         [0, 0, 0, NO, NO],
         [0, NO, NO, 0, NO],
         [0, NO, NO, 0, 0]], id='shared start'),
    pytest.param(
        [[90, 5, 6, 91], [90, 5, 91]],
        [90, 5, 6, 91, 91], [0, 1, 2, 3, 2], [3, 4],
        [[0, NO, NO, NO, NO],
         [0, 0, NO, NO, NO],
         [0, 0, 0, NO, NO],
         [0, 0, 0, 0, NO],
         [0, 0, NO, NO, 0]], id='one prompt begins the other'),
    pytest.param(
        [[90, 5, 5, 91]],
        [90, 5, 5, 91], [0, 1, 2, 3], [3],
        [[0, NO, NO, NO],
         [0, 0, NO, NO],
         [0, 0, 0, NO],
         [0, 0, 0, 0]], id='a symbol twice in one prompt'),
    pytest.param(
        [[1, 3], [2, 3]],
        [1, 3, 2, 3], [0, 1, 0, 1], [1, 3],
        [[0, NO, NO, NO],
         [0, 0, NO, NO],
         [NO, NO, 0, NO],
         [NO, NO, 0, 0]], id='nothing in common'),
])
def test_layout_by_hand(prompts, symbols, depth, leaves, mask):
    tree = TokenTree(prompts)
    assert len(tree) == len(symbols)
    assert tree.symbols.tolist() == symbols
    assert tree.depth.tolist() == depth
    assert tree.leaves.tolist() == leaves
    assert tree.mask.tolist() == mask
    assert tree.length == max(len(prompt) for prompt in prompts)


@pytest.mark.parametrize('seed', range(5))
def test_mask_is_the_ancestor_relation(seed):
    prompts = random_prompts(40, seed)
    tree = TokenTree(prompts)
    nodes = prefixes_of(prompts)
    assert len(tree) == len(nodes) < sum(map(len, prompts))
    assert tree.symbols.tolist() == [node[-1] for node in nodes]
    assert tree.depth.tolist() == [len(node) - 1 for node in nodes]
    expected = [[0. if row[:len(column)] == column else NO for column in nodes] for row in nodes]
    assert tree.mask.tolist() == expected
    assert paths(tree) == prompts
    assert [tree.symbols[path[path >= 0]].tolist() for path in tree.paths] == prompts


def test_same_prompt_twice_is_one_path():
    tree = TokenTree([[90, 1, 91], [90, 2, 91], [90, 1, 91]])
    assert tree.leaves.tolist() == [2, 4, 2]
    assert len(tree) == 5


def test_tensors_move_with_the_model_but_stay_out_of_checkpoints():
    tree = TokenTree(random_prompts(5))
    assert {name for name, _ in tree.named_buffers()} == {
        'symbols', 'depth', 'leaves', 'paths', 'mask'}
    assert not tree.state_dict()
    assert tree.to('meta').mask.is_meta


@pytest.mark.parametrize('max_tokens', [1, 9, 16, 40, 10**6])
def test_trees_keep_the_order_of_prompts_within_max_tokens(max_tokens):
    prompts = random_prompts(60)
    trees = grow_trees(prompts, max_tokens)
    assert [path for tree in trees for path in paths(tree)] == prompts
    assert all(len(tree) <= max_tokens or len(tree.leaves) == 1 for tree in trees)
    for tree, following in zip(trees[:-1], list(trees)[1:], strict=True):  # none is cut too early
        joined = prefixes_of([*paths(tree), paths(following)[0]])
        assert len(joined) > max_tokens
    assert (len(trees) == 1) == (max_tokens >= len(prefixes_of(prompts)))


def test_default_bounds_the_mask():
    prompts = [[START, first, second, END] for first in range(20) for second in range(20)]
    trees = grow_trees(prompts)
    assert len(trees) > 1
    assert max(tree.mask.shape[0] for tree in trees) <= 512


@pytest.fixture
def tower(tiny_vit):
    torch.manual_seed(0)
    return CLIPTextTower(model=tiny_vit)


@pytest.mark.parametrize('max_tokens', [16, 20])
def test_cut_trees_give_the_embeddings_of_one_tree(tower, max_tokens):
    names = ['sky', 'sea', 'sea lion', 'street light', 'streetcar', 'crt screen', 'door', 'sky']
    prompts = [tower.prompt(range(49408, 49412), tower.tokenize(name)) for name in names]
    one, many = grow_trees(prompts, 10**6), grow_trees(prompts, max_tokens)
    assert len(one) == 1 < len(many)
    assert all(len(tree) <= max_tokens for tree in many)
    learned = torch.randn(2, 4, tower.width) * 0.02
    expected = tower(one, learned)
    assert expected.shape == (2, len(names), tower.embed_dim)
    torch.testing.assert_close(tower(many, learned), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(expected[:, 0], expected[:, -1], rtol=0, atol=0)
    assert torch.pdist(expected[0, 1:]).min() > 1e-2


def test_ade20k_is_342_tokens(tower):
    names = read_class_names('ade20k')
    prompt = LearnedContext(text_encoder=tower, texts=names, num_context=8)
    tree, = prompt.lay_out(tower, names)
    assert len(tree) == 342
    # start, contexts and the distinct beginnings of the names; an end for each of them
    beginnings = set(prefixes_of([tower.tokenize(name) for name in names]))
    assert len(beginnings) == 342 - 1 - 8 - 150
    assert len(tree.leaves) == 150
    assert tree.length == 1 + 8 + max(map(len, beginnings)) + 1


def test_class_specific_contexts_share_only_the_start(tower):
    names = ['sky', 'sea', 'sea lion']
    prompt = LearnedContext(text_encoder=tower, texts=names, num_context=4, class_specific=True)
    tree, = prompt.lay_out(tower, names)
    lengths = [1 + 4 + len(tower.tokenize(name)) + 1 for name in names]
    assert len(tree) == 1 + sum(length - 1 for length in lengths)
    seen_by = (tree.mask[tree.leaves] == 0).sum(0)
    assert seen_by.tolist() == [3] + [1] * (len(tree) - 1)
    assert [path[1:5] for path in paths(tree)] == [
        [49408, 49409, 49410, 49411], [49412, 49413, 49414, 49415], [49416, 49417, 49418, 49419]]
