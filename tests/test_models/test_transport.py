"""Several prompts of a class: their layout, their gradient, and how their scores become one."""

from denseclip_mm.apis.checkpoints.export import drop_text_tower, save_without_text_tower
from denseclip_mm.apis.open_vocabulary import answer_names
from denseclip_mm.models.transport import transport_shares
from denseclip_mm.text import CLIPTextTower, LearnedContext

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

NAMES = ['sky', 'pool table;bar', 'pool']
FPN = dict(type='FPN', in_channels=[4, 4], out_channels=4, num_outs=2)


def sinkhorn(cost_NM: np.ndarray, epsilon: float) -> np.ndarray:
    """The plan between uniform cells and uniform prompts, as Cuturi writes it, to convergence."""
    n, m = cost_NM.shape
    kernel, v = np.exp(-cost_NM / epsilon), np.ones(m)
    for _ in range(5000):
        u = 1 / n / (kernel @ v)
        v = 1 / m / (kernel.T @ u)
    return u[:, None] * kernel * v


def test_shares_are_the_plan() -> None:
    """Class by class and image by image; cosines as far apart as prompts of a class are."""
    generator = torch.Generator().manual_seed(0)
    score = torch.randn(2, 7, 5, 6, generator=generator) * 0.15
    owners = torch.tensor([0, 0, 0, 0, 1, 2, 2])
    shares = transport_shares(score, owners, 3)
    for image in range(2):
        for owner in range(3):
            cosines = score[image, owners == owner].flatten(1).T.double().numpy()
            plan = sinkhorn(1 - cosines, 0.1) * len(cosines)
            actual = shares[image, owners == owner].flatten(1).T
            np.testing.assert_allclose(actual, plan, atol=1e-4)
    torch.testing.assert_close(shares[:, 4], torch.ones(2, 5, 6))


def test_one_prompt_that_is_never_the_best_takes_its_part() -> None:
    score = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 0.3
    score[:, 2] -= 0.5
    shares = transport_shares(score, torch.zeros(3, dtype=torch.long), 1)
    torch.testing.assert_close(shares.mean((2, 3)), torch.full((1, 3), 1 / 3), atol=1e-3, rtol=0)
    torch.testing.assert_close(shares.sum(1), torch.ones(1, 8, 8))


def neck_of(clip: dict, synonyms: str = 'best', **prompt: object) -> nn.Module:
    torch.manual_seed(0)
    return MODELS.build(dict(
        type='PixelTextNeck', class_names=NAMES, synonyms=synonyms, score_map_index=1, neck=FPN,
        prompt=dict(type='LearnedContext', num_context=3) | prompt,
        text_encoder=dict(type='CLIPTextTower', model=clip))).eval()


def features(channels: int, dtype: torch.dtype = torch.float32) -> tuple:
    generator = torch.Generator().manual_seed(3)
    maps = [torch.randn(2, 4, 2 * size, 3 * size, generator=generator, dtype=torch.float64)
            for size in (2, 1)]
    image = torch.randn(2, channels, generator=generator, dtype=torch.float64)
    dense = torch.randn(2, channels, 2, 3, generator=generator, dtype=torch.float64)
    return *(each.to(dtype) for each in maps), (image.to(dtype), dense.to(dtype))


@pytest.mark.parametrize('class_specific', [False, True])
@torch.no_grad()
def test_each_prompt_is_as_if_it_were_alone(tiny_resnet: dict, class_specific: bool) -> None:
    """The embeddings of M prompts, those of a text one after the other."""
    tower = CLIPTextTower(model=tiny_resnet)
    texts = ['sky', 'pool table', 'pool']
    several = LearnedContext(text_encoder=tower, texts=texts, num_context=3, num_prompts=4,
                             class_specific=class_specific)
    assert several.contexts.shape == ((3, 4, 3, 32) if class_specific else (4, 3, 32))
    actual = several(tower, several.lay_out(tower, texts)).unflatten(1, (3, 4))
    for index in range(4):
        alone = LearnedContext(text_encoder=tower, texts=texts, num_context=3,
                               class_specific=class_specific)
        alone.contexts.copy_(several.contexts[..., index, :, :])
        torch.testing.assert_close(actual[:, :, index], alone(tower, alone.lay_out(tower, texts)))


def test_contexts_are_laid_out_once(tiny_resnet: dict) -> None:
    """Start, 4 x 3 contexts, then for each prompt sky, pool (shared), table, bar, 4 ends."""
    tree, = neck_of(tiny_resnet, num_prompts=4).vocabulary.trees
    assert len(tree) == 1 + 4 * 3 + 4 * (4 + 4)


@pytest.mark.parametrize('synonyms', ['best', 'mean', 'transport'])
@torch.no_grad()
def test_scores_of_a_class(tiny_resnet: dict, synonyms: str) -> None:
    """Of the prompts of all its synonyms."""
    neck = neck_of(tiny_resnet, synonyms, num_prompts=2)
    inputs = features(neck.embed_dim)
    actual = neck(inputs)[-1]
    texts = neck.prompt(neck.text_encoder, neck.vocabulary.trees)[0]
    cosines = F.cosine_similarity(texts[None, :, :, None, None], inputs[-1][1][:, None], dim=2)
    for owner, members in enumerate([[0, 1], [2, 3, 4, 5], [6, 7]]):
        own = cosines[:, members]
        if synonyms == 'best':
            expected = own.amax(1)
        elif synonyms == 'mean':
            expected = own.mean(1)
        else:
            plans = [6 * sinkhorn(1 - each.flatten(1).T.double().numpy(), 0.1).T for each in own]
            shares = torch.from_numpy(np.stack(plans)).float().view_as(own)
            expected = (own * shares).sum(1)
        torch.testing.assert_close(actual[:, owner], expected, atol=2e-4, rtol=0)


@pytest.mark.parametrize('synonyms', ['best', 'mean', 'transport'])
def test_gradient_against_finite_differences(tiny_resnet: dict, synonyms: str) -> None:
    """In float64; the plan of a transport is held, as PLOT holds it in its outer loop."""
    neck = neck_of(tiny_resnet, synonyms, num_prompts=3).double()
    inputs = features(neck.embed_dim, torch.float64)
    labels = torch.randint(0, len(NAMES), (2, 2, 3), generator=torch.Generator().manual_seed(2))
    vocabulary, held = neck.vocabulary, []

    def loss() -> Tensor:
        _, (image, dense) = inputs[:-1], inputs[-1]
        tokens = torch.cat([image[:, :, None], dense.flatten(2)], dim=2).mT
        texts = F.normalize(neck.text_embeddings(vocabulary, tokens), dim=2)
        scores = torch.einsum('zsc,bchw->bshw', texts, F.normalize(dense, dim=1))
        if synonyms == 'transport':
            held.append(transport_shares(scores, vocabulary.class_of_text, len(NAMES)))
            scores = scores * held[0]
        owners = vocabulary.class_of_text
        reduce = dict(best='amax', mean='mean', transport='sum')[synonyms]
        score_map = torch.stack([getattr(scores[:, owners == owner], reduce)(1)
                                 for owner in range(len(NAMES))], dim=1)
        return F.cross_entropy(score_map / 0.07, labels)

    contexts = neck.prompt.contexts
    F.cross_entropy(neck(inputs)[-1] / 0.07, labels).backward()
    start = contexts.detach().clone()
    loss()  # holds the plan
    for seed in range(3):
        direction = torch.randn(start.shape, dtype=torch.float64,
                                generator=torch.Generator().manual_seed(seed))
        values = []
        for step in (1e-6, -1e-6):
            contexts.data = start + step * direction
            values.append(loss().item())
        slope = (values[0] - values[1]) / 2e-6
        assert (contexts.grad * direction).sum().item() == pytest.approx(slope, rel=1e-4, abs=1e-8)


def test_what_cannot_be_several(tiny_resnet: dict) -> None:
    with pytest.raises(ValueError, match='num_prompts=0 is too few; 1 is the usual prompt'):
        neck_of(tiny_resnet, num_prompts=0)
    with pytest.raises(ValueError, match=r"num_prompts=4 .* init_words='a photo of' would stay"):
        neck_of(tiny_resnet, num_prompts=4, init_words='a photo of')
    with pytest.raises(ValueError, match="'best', 'mean' or 'transport', got 'worst'"):
        neck_of(tiny_resnet, 'worst')


@pytest.mark.parametrize('synonyms', ['mean', 'transport'])
@torch.no_grad()
def test_in_a_model(tiny_resnet: dict, model_config, tmp_path, synonyms: str) -> None:
    """Other names; the same without the text tower; the files that are exported."""
    cfg = model_config(tiny_resnet, NAMES)
    cfg['neck'].update(synonyms=synonyms, prompt=dict(
        type='LearnedContext', num_context=2, num_prompts=4))
    torch.manual_seed(0)
    model = MODELS.build(cfg).eval()
    pixels = torch.rand(1, 3, 64, 64)
    before = model.extract_feat(pixels)
    assert before[-1].shape == (1, 3, 2, 2)
    view = answer_names(model, ['sky', 'pool', 'cat', 'dog'])
    score_map = view.extract_feat(pixels)[-1]
    assert score_map.shape == (1, 4, 2, 2)
    if synonyms == 'mean':  # where no class looks at the others
        torch.testing.assert_close(score_map[:, :2], before[-1][:, [0, 2]])
    model.cfg, model.dataset_meta = Config(dict(model=cfg)), dict(classes=NAMES, palette=[])
    config, checkpoint = save_without_text_tower(model, tmp_path)
    assert Config.fromfile(config).model.neck.prompt.num_prompts == 4
    assert torch.load(checkpoint)['state_dict']['neck.prompt.embeddings'].shape[0] == 16
    drop_text_tower(model)
    for ours, theirs in zip(model.extract_feat(pixels), before, strict=True):
        torch.testing.assert_close(ours, theirs)
