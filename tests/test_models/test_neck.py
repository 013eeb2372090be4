"""The neck against the paper's equations written out; its vocabulary, cache and frozen tower."""

import pickle
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path

from denseclip_mm.models.aggregation_head import CostAggregationHead
from denseclip_mm.models.box_score_map_loss import BoxScoreMapLoss
from denseclip_mm.models.neck import PixelTextNeck
from denseclip_mm.models.score_map_head import ScoreMapHead
from denseclip_mm.models.vocabulary import split_synonyms

import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

SCHEDULE = Path(__file__).resolve().parents[2] / 'configs/_base_/schedules/schedule_80k.py'
NAMES = ['cat', 'dog', 'traffic light', 'sky']
OTHER_NAMES = ['bus', 'swimming pool', 'oak tree', 'sea']
MORE_NAMES = [*OTHER_NAMES, 'cat', 'ship;boat']
CHANNELS = [32, 64, 128, 256]
SIZES = [(16, 24), (8, 12), (4, 6), (2, 3)]
EMBED_DIM = 24
DECODER = dict(type='ContextDecoder', width=16, num_heads=2, num_layers=2)
FPN = dict(type='FPN', in_channels=CHANNELS, out_channels=8, num_outs=4)


def build(clip: dict, class_names: Sequence[str] = NAMES, **changes: object) -> PixelTextNeck:
    """A neck in eval mode, its gamma large enough to matter."""
    arguments = dict(
        type='PixelTextNeck', class_names=class_names, score_map_index=3, neck=FPN,
        text_encoder=dict(type='CLIPTextTower', model=clip), context_decoder=DECODER,
        prompt=dict(type='LearnedContext', num_context=3))
    torch.manual_seed(0)
    neck = MODELS.build({**arguments, **changes})
    if neck.context_decoder is not None:
        nn.init.normal_(neck.gamma)
    return neck.eval()


def features(level: int = 3, seed: int = 1) -> tuple:
    """Four maps and the embedding pair, the dense one of the size of a map."""
    torch.manual_seed(seed)
    maps = [torch.randn(2, channels, *size)
            for channels, size in zip(CHANNELS, SIZES, strict=True)]
    return (*maps, (torch.randn(2, EMBED_DIM), torch.randn(2, EMBED_DIM, *SIZES[level])))


def score_map(neck: PixelTextNeck, inputs: tuple, texts: Sequence[str]) -> Tensor:
    """Equations 1, 3 and 4 of the paper, text by text: (B, S, H, W)."""
    image, dense = inputs[-1]
    text = neck.prompt(neck.text_encoder, neck.prompt.lay_out(neck.text_encoder, texts))
    text = text.repeat(2, 1, 1)
    if neck.context_decoder is not None:
        cells = [dense[:, :, row, column] for row in range(dense.shape[2])
                 for column in range(dense.shape[3])]
        tokens = torch.stack([image, *cells], dim=1)
        text = text + neck.gamma * neck.context_decoder(text, tokens)
    text = text / text.norm(dim=2, keepdim=True)
    return torch.einsum('bsc,bchw->bshw', text, dense / dense.norm(dim=1, keepdim=True))


def outputs(neck: PixelTextNeck, inputs: tuple, texts: Sequence[str]) -> tuple[Tensor, ...]:
    """What the neck has to return for classes of one text each."""
    scores = score_map(neck, inputs, texts)
    maps = list(inputs[:-1])
    maps[neck.score_map_index] = torch.cat([maps[neck.score_map_index], scores], dim=1)
    return (*neck.neck(maps), scores)


def close(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


VARIANTS = {
    'denseclip': dict(),
    'coop': dict(context_decoder=None),
    'coop class-specific': dict(
        context_decoder=None, prompt=dict(type='LearnedContext', class_specific=True)),
    'templates': dict(
        prompt=dict(type='TemplatePrompt', templates=['a photo of a {}.', 'there is a {}.'])),
    'cocoop': dict(context_decoder=None, prompt=dict(type='ConditionalContext')),
    'pre-model': dict(
        context_decoder=None,
        prompt=dict(type='VisualContext', width=16, num_heads=2, num_layers=2)),
    'other level': dict(score_map_index=2),
}


# The figure


def test_without_a_neck_the_score_map_is_all(tiny_resnet: dict) -> None:
    neck = build(tiny_resnet, neck=None, score_map_index=None)
    inputs = features()
    with torch.no_grad():
        close(neck(inputs), [score_map(neck, inputs, NAMES)])
        neck.set_class_names(OTHER_NAMES[:3])
        close(neck(inputs), [score_map(neck, inputs, OTHER_NAMES[:3])])


@pytest.mark.parametrize(('options', 'fault'), [
    (dict(neck=None, score_map_index=None, output_score_map=False), 'would go nowhere'),
    (dict(score_map_index=None, output_score_map=False), 'would go nowhere')])
def test_a_score_map_that_goes_nowhere(options: dict, fault: str, tiny_resnet: dict) -> None:
    with pytest.raises(ValueError, match=fault):
        build(tiny_resnet, **options)


@torch.no_grad()
def test_without_a_neck_the_score_map_joins_a_map(tiny_resnet: dict) -> None:
    """For heads that take the backbone's own maps."""
    neck, inputs = build(tiny_resnet, neck=None, score_map_index=3), features()
    expected = score_map(neck, inputs, NAMES)
    close(neck(inputs), [*inputs[:3], torch.cat([inputs[3], expected], 1), expected])
    with pytest.raises(ValueError, match='score_map_index=4 is no index of the 4 feature maps'):
        build(tiny_resnet, neck=None, score_map_index=4)(inputs)


@torch.no_grad()
def test_a_score_map_beside_the_neck(tiny_resnet: dict) -> None:
    """Without ``score_map_index`` the neck gets the maps as they are, and other names follow."""
    neck, inputs = build(tiny_resnet, score_map_index=None), features()
    close(neck(inputs), [*neck.neck(inputs[:-1]), score_map(neck, inputs, NAMES)])
    for names in (OTHER_NAMES[:3], OTHER_NAMES):
        neck.set_class_names(names)
        close(neck(inputs), [*neck.neck(inputs[:-1]), score_map(neck, inputs, names)])


def test_tau_divides_what_is_concatenated_alone(tiny_resnet: dict) -> None:
    """As a neck without it, whose weights for the score map are larger."""
    cold, plain = build(tiny_resnet, tau=0.25), build(tiny_resnet)
    plain.load_state_dict(cold.state_dict())
    with torch.no_grad():
        plain.neck.lateral_convs[3].conv.weight[:, -len(NAMES):] /= 0.25
        close(cold(features()), plain(features()))


IMAGE_INDEPENDENT = {name: changes for name, changes in VARIANTS.items()
                     if name not in ('cocoop', 'pre-model')}  # those: test_image_prompts.py


@pytest.mark.parametrize('changes', IMAGE_INDEPENDENT.values(), ids=IMAGE_INDEPENDENT.keys())
def test_forward(changes: dict, tiny_resnet: dict) -> None:
    neck = build(tiny_resnet, **changes)
    inputs = features(neck.score_map_index)
    with torch.no_grad():
        ours = neck(inputs)
        close(ours, outputs(neck, inputs, NAMES))
    assert [tuple(fmap.shape) for fmap in ours] == [
        *((2, 8, *size) for size in SIZES), (2, 4, *SIZES[neck.score_map_index])]
    assert ours[-1].abs().max() <= 1 + 1e-6
    assert ours[-1].std() > 0.01


def test_score_map_can_be_left_out(tiny_resnet: dict) -> None:
    whole, short = (build(tiny_resnet, output_score_map=flag) for flag in (True, False))
    with torch.no_grad():
        close(short(features()), whole(features())[:4])


@pytest.mark.parametrize('index', [0, 3])
def test_wrapped_neck_is_widened_at_the_index(index: int, tiny_resnet: dict) -> None:
    config = deepcopy(FPN)
    neck = build(tiny_resnet, MORE_NAMES, score_map_index=index, neck=config)
    assert [conv.conv.in_channels for conv in neck.neck.lateral_convs] == [
        channels + (len(MORE_NAMES) if level == index else 0)
        for level, channels in enumerate(CHANNELS)]
    assert config == FPN, 'the config of the user is left as it was'


@pytest.mark.parametrize('gamma', [1e-4, 0.5])
def test_gamma_scales_the_decoder(gamma: float, tiny_resnet: dict) -> None:
    neck = MODELS.build(dict(
        type='PixelTextNeck', class_names=NAMES, score_map_index=3, neck=FPN,
        text_encoder=dict(type='CLIPTextTower', model=tiny_resnet), context_decoder=DECODER,
        prompt=dict(type='LearnedContext'), **(dict(gamma=gamma) if gamma != 1e-4 else {})))
    assert neck.gamma.shape == (EMBED_DIM, )
    assert (neck.gamma == gamma).all()
    assert neck.prompt.contexts.shape == (8, 32)


def test_without_decoder_there_is_no_gamma(tiny_resnet: dict) -> None:
    neck = build(tiny_resnet, context_decoder=None)
    assert {name.split('.')[0] for name, parameter in neck.named_parameters()
            if parameter.requires_grad} == {'prompt', 'neck'}


@pytest.mark.parametrize('decoder', [None, DECODER])
def test_embeddings_without_a_tower(decoder: dict | None, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((4, EMBED_DIM)).astype(np.float32)
    np.save(tmp_path / 'text.npy', rows)
    neck = build({}, text_encoder=None, context_decoder=decoder, prompt=dict(
        type='TextEmbeddings', path=str(tmp_path / 'text.npy'), embed_dim=EMBED_DIM))
    neck.init_weights()
    assert neck.text_encoder is None
    inputs = features()
    if decoder is None:
        dense = inputs[-1][1].numpy()
        cosines = np.einsum('kc,bchw->bkhw', rows / np.linalg.norm(rows, axis=1, keepdims=True),
                            dense / np.linalg.norm(dense, axis=1, keepdims=True))
        np.testing.assert_allclose(neck(inputs)[-1].detach().numpy(), cosines, atol=1e-6)
    with torch.no_grad():
        close(neck(inputs), outputs(neck, inputs, NAMES))
    with pytest.raises(ValueError, match=r'TextEmbeddings .* 4 names cannot be changed'):
        neck.set_class_names(OTHER_NAMES)


def test_contexts_start_from_words_of_the_loaded_tower(tiny_resnet: dict) -> None:
    neck = build(tiny_resnet, prompt=dict(type='LearnedContext', init_words='a photo of a'))
    neck.init_weights()
    tower = neck.text_encoder
    assert torch.equal(neck.prompt.contexts,
                       tower.tower.token_embedding.weight[tower.tokenize('a photo of a')])
    linear = neck.context_decoder.layers[0].mlp[0]
    assert linear.weight.std().item() == pytest.approx(0.02, rel=0.1)


# The vocabulary


def copy_weights(source: PixelTextNeck, target: PixelTextNeck) -> PixelTextNeck:
    """All that does not depend on the number of classes."""
    state = {name: tensor for name, tensor in source.state_dict().items()
             if target.state_dict()[name].shape == tensor.shape}
    target.load_state_dict({**target.state_dict(), **state})
    return target


def test_a_class_may_score_as_the_mean_of_its_synonyms(tiny_resnet: dict) -> None:
    names = ['cat;kitten;tabby', 'dog', 'sea;ocean']
    neck = build(tiny_resnet, names, synonyms='mean')
    inputs = features()
    with torch.no_grad():
        each = score_map(neck, inputs, ['cat', 'kitten', 'tabby', 'dog', 'sea', 'ocean'])
        expected = torch.stack([each[:, :3].mean(1), each[:, 3], each[:, 4:].mean(1)], dim=1)
        close(neck(inputs)[-1:], [expected])
        neck.set_class_names(['bus;coach', 'sea', 'cat'])
        each = score_map(neck, inputs, ['bus', 'coach', 'sea', 'cat'])
        expected = torch.stack([each[:, :2].mean(1), each[:, 2], each[:, 3]], dim=1)
        close(neck(inputs)[-1:], [expected])


def test_unknown_reduction_of_synonyms(tiny_resnet: dict) -> None:
    with pytest.raises(ValueError, match="must be 'best', 'mean' or 'transport', got 'max'"):
        build(tiny_resnet, synonyms='max')


def test_a_class_scores_as_its_best_synonym(tiny_resnet: dict) -> None:
    names = ['cat;kitten; tomcat', 'dog', 'car;traffic light']
    neck = build(tiny_resnet, names)
    texts = [text for name in names for text in split_synonyms(name)]
    apart = copy_weights(neck, build(tiny_resnet, texts))
    with torch.no_grad():
        scores, single = neck(features())[-1], apart(features())[-1]
    expected = [single[:, group].max(dim=1).values for group in ([0, 1, 2], [3], [4, 5])]
    torch.testing.assert_close(scores, torch.stack(expected, dim=1))
    winners = single[:, :3].argmax(dim=1)
    assert len(winners.unique()) > 1, 'no single synonym decides everywhere'


@pytest.mark.parametrize('names', [OTHER_NAMES, ['cat;kitten', 'sky', 'dog', 'a very long name']])
@pytest.mark.parametrize('variant', ['denseclip', 'templates'])
def test_other_names_of_the_same_number(names: list[str], variant: str,
                                        tiny_resnet: dict) -> None:
    neck = build(tiny_resnet, **VARIANTS[variant])
    built = copy_weights(neck, build(tiny_resnet, names, **VARIANTS[variant]))
    keys = list(neck.state_dict())
    with torch.no_grad():
        before = neck(features())
        neck.set_class_names(names)
        after = neck(features())
        close(after, built(features()))
    assert neck.class_names == names
    assert list(neck.state_dict()) == keys
    for old, new in zip(before, after, strict=True):
        assert not torch.allclose(old[..., -1:], new[..., -1:])


@pytest.mark.parametrize('names', [MORE_NAMES, ['sea']])
def test_another_number_of_names(names: list[str], tiny_resnet: dict) -> None:
    """The decoder was trained for its own classes and goes on seeing them."""
    neck = build(tiny_resnet)
    built = copy_weights(neck, build(tiny_resnet, names))
    with torch.no_grad():
        before = neck(features())
        neck.set_class_names(names)
        after = neck(features())
        for old, new in zip(before[:4], after[:4], strict=True):
            assert torch.equal(old, new)
        assert after[-1].shape == (2, len(names), *SIZES[3])
        close([after[-1]], [built(features())[-1]])
        neck.set_class_names(NAMES)
        close(neck(features()), before)


def test_names_from_an_alias_and_a_file(tiny_resnet: dict, tmp_path: Path) -> None:
    neck = build(tiny_resnet, 'cityscapes')
    assert neck.class_names[:3] == ['road', 'sidewalk', 'building']
    (tmp_path / 'names.txt').write_text('one\ntwo\n')
    neck.set_class_names(str(tmp_path / 'names.txt'))
    assert neck.class_names == ['one', 'two']
    assert neck(features())[-1].shape[1] == 2


@pytest.mark.parametrize(('names', 'message'), [
    (['cat', 'Cat', 'dog', 'sky'], "'Cat' stands twice"),
    ([], 'holds no names'),
    ('no such alias', "class_names='no such alias' is neither a file nor a dataset"),
    (['cat', 'word ' * 80], 'with 3 contexts has 85 tokens, but the text tower takes 77'),
])
def test_faulty_names_change_nothing(names: list[str] | str, message: str,
                                     tiny_resnet: dict) -> None:
    neck = build(tiny_resnet)
    with torch.no_grad():
        before = neck(features())
        with pytest.raises(ValueError, match=message):
            neck.set_class_names(names)
        assert neck.class_names == NAMES
        for old, new in zip(before, neck(features()), strict=True):
            assert torch.equal(old, new)
    with pytest.raises(ValueError, match=message):
        build(tiny_resnet, names)


def test_class_specific_contexts_refuse_other_names(tiny_resnet: dict) -> None:
    neck = build(tiny_resnet, **VARIANTS['coop class-specific'])
    with pytest.raises(ValueError, match='LearnedContext holds vectors of its own for every class; '
                       'its 4 names cannot be changed'):
        neck.set_class_names(OTHER_NAMES)
    assert neck.class_names == NAMES


# The cache of text embeddings


@pytest.fixture
def counted(tiny_resnet: dict) -> tuple[PixelTextNeck, list]:
    """A neck, and a list that grows with every run of its text tower."""
    neck, calls = build(tiny_resnet), []
    neck.text_encoder.register_forward_hook(lambda *args: calls.append(1))
    return neck, calls


def step(neck: PixelTextNeck) -> None:
    """An optimiser step on the contexts, in eval mode."""
    optimiser = torch.optim.AdamW([neck.prompt.contexts], lr=0.1)
    with torch.enable_grad():
        neck(features())[-1][:, 0].sum().backward()
    optimiser.step()


def moved(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor + 0.1 if tensor.is_floating_point() else tensor
            for name, tensor in module.state_dict().items()}


def swap(neck: PixelTextNeck) -> None:
    """As mmengine's EMAHook does before a validation: through ``.data``, then ``eval()``."""
    neck.prompt.contexts.data.mul_(-1)
    neck.eval()


EVENTS: dict[str, Callable[[PixelTextNeck], object]] = {
    'training resumes': lambda neck: neck.train().eval(),
    'weights are swapped before evaluation': swap,
    'the prompt is written through .data': lambda neck: neck.prompt.contexts.data.mul_(-1),
    'one number of the prompt is': lambda neck: neck.prompt.contexts.data[1, 3].add_(1),
    'the tower is written through .data': lambda neck: neck.text_encoder.tower.transformer
    .resblocks[1].attn.in_proj_weight.data.mul_(-1),
    'one number of a norm is': lambda neck: neck.text_encoder.tower.ln_final.bias.data[5].add_(1),
    'the whole is loaded': lambda neck: neck.load_state_dict(moved(neck)),
    'the prompt is loaded': lambda neck: neck.prompt.load_state_dict(moved(neck.prompt)),
    'the tower is loaded': lambda neck: neck.text_encoder.load_state_dict(
        moved(neck.text_encoder)),
    'the prompt is replaced': lambda neck: neck.prompt.load_state_dict(
        moved(neck.prompt), assign=True),
    'the optimiser steps': step,
    'names change': lambda neck: neck.set_class_names(OTHER_NAMES),
    'the model moves': lambda neck: neck.double().float(),
}


@pytest.mark.parametrize('mode', [torch.no_grad, torch.inference_mode])
def test_tower_runs_once_in_evaluation(counted: tuple[PixelTextNeck, list],
                                       mode: Callable) -> None:
    neck, calls = counted
    with mode():
        results = [neck(features()) for _ in range(3)]
        assert len(calls) == 1
        close(neck(features(seed=2)), outputs(neck, features(seed=2), NAMES))
    with torch.no_grad():
        assert torch.equal(neck(features())[-1], results[0][-1])
    assert len(calls) == 2, 'the second is the comparison above'
    for old, new in zip(results[0], results[2], strict=True):
        assert torch.equal(old, new)


def test_model_of_inference_tensors(tiny_resnet: dict) -> None:
    with torch.inference_mode():
        neck = build(tiny_resnet)
        close(neck(features()), outputs(neck, features(), NAMES))
        assert torch.equal(neck(features())[-1], neck(features())[-1])


def test_weights_made_in_inference_mode_are_written(tiny_resnet: dict) -> None:
    """They count no versions, so the text is computed each time."""
    with torch.inference_mode():
        neck = build(tiny_resnet)
        neck(features())
        neck.prompt.contexts.mul_(-1)
        neck.text_encoder.tower.ln_final.weight.mul_(2)
        close(neck(features()), outputs(neck, features(), NAMES))


def test_weights_that_are_not_contiguous_are_written(counted: tuple[PixelTextNeck, list]) -> None:
    neck, calls = counted
    matrix = neck.text_encoder.tower.transformer.resblocks[0].mlp.c_fc.weight
    matrix.data = matrix.data.T.contiguous().T
    with torch.no_grad():
        neck(features())
        matrix.data.mul_(-1)
        calls.clear()
        ours = neck(features())
        assert len(calls) == 1
        close(ours, outputs(neck, features(), NAMES))


@pytest.mark.parametrize('prompt', [dict(type='TemplatePrompt'),
                                    dict(type='TemplatePrompt', templates='simple_imagenet')])
def test_training_with_nothing_to_learn_does_not_enter_the_tower(prompt: dict,
                                                                 tiny_resnet: dict) -> None:
    """Once it is kept: ten steps of an optimiser, gradients to the image and gamma as they were."""
    neck, calls = build(tiny_resnet, prompt=prompt), []
    neck.text_encoder.register_forward_hook(lambda *_: calls.append(1))
    with torch.inference_mode():  # a validation comes first
        neck(features())
    neck.train()
    optimiser = torch.optim.SGD([p for p in neck.parameters() if p.requires_grad], lr=0.1)
    for number in range(10):
        maps = features(seed=number)
        maps[-1][1].requires_grad_()
        torch.manual_seed(number)
        ours = neck(maps)
        ours[-1].square().sum().backward()
        assert maps[-1][1].grad.abs().sum() > 0 and neck.gamma.grad.abs().sum() > 0
        optimiser.step()
    assert len(calls) == 2
    neck.eval()
    with torch.no_grad():
        close(neck(features()), outputs(neck, features(), NAMES))


def test_text_kept_in_inference_mode_serves_gradients(tiny_resnet: dict) -> None:
    neck = build(tiny_resnet, prompt=dict(type='TemplatePrompt'))
    with torch.inference_mode():
        neck(features())
    neck(features())[-1].square().sum().backward()
    assert neck.gamma.grad.abs().sum() > 0


def test_both_vocabularies_are_kept(counted: tuple[PixelTextNeck, list]) -> None:
    neck, calls = counted
    neck.set_class_names(MORE_NAMES)
    with torch.no_grad():
        for _ in range(3):
            neck(features())
    assert len(calls) == 2


@pytest.mark.parametrize('event', EVENTS.values(), ids=EVENTS.keys())
@torch.no_grad()
def test_kept_embeddings_are_dropped(event: Callable, counted: tuple[PixelTextNeck, list]) -> None:
    neck, calls = counted
    neck(features())
    event(neck)
    calls.clear()
    ours = neck(features())
    assert len(calls) == 1
    close(ours, outputs(neck, features(), neck.class_names))
    calls.clear()
    neck(features())
    assert calls == []


def test_kept_embeddings_do_not_serve_where_gradients_are_recorded(
        counted: tuple[PixelTextNeck, list]) -> None:
    neck, calls = counted
    with torch.no_grad():
        neck(features())
    for _ in range(2):
        neck(features())[-1][:, 0].sum().backward()
        assert neck.prompt.contexts.grad.abs().sum() > 0
        neck.prompt.contexts.grad = None
    assert len(calls) == 3
    with torch.no_grad():
        neck(features())
        assert len(calls) == 3, 'nothing has changed since'
        neck.train()
        neck(features())
        neck(features())
    assert len(calls) == 5, 'no cache in training'


@pytest.mark.parametrize('event', ['the prompt is loaded', 'names change',
                                   'weights are swapped before evaluation'])
@torch.no_grad()
def test_kept_embeddings_under_compile(event: str, counted: tuple[PixelTextNeck, list]) -> None:
    neck, calls = counted
    compiled = torch.compile(neck, backend='eager')
    for _ in range(3):
        close(compiled(features()), outputs(neck, features(), neck.class_names))
    assert len(calls) == 4, 'once for us, three times for the comparison'
    EVENTS[event](neck)
    close(compiled(features()), outputs(neck, features(), neck.class_names))
    assert len(calls) == 6
    with torch.enable_grad():
        compiled(features())[-1][:, 0].sum().backward()
    assert neck.prompt.contexts.grad.abs().sum() > 0


@pytest.mark.parametrize('duplicate', [deepcopy, lambda neck: pickle.loads(pickle.dumps(neck))],
                         ids=['deepcopy', 'pickle'])
@torch.no_grad()
def test_copies_stand_alone(duplicate: Callable, tiny_resnet: dict) -> None:
    neck = build(tiny_resnet)
    before = neck(features())
    copy = duplicate(neck)
    for old, new in zip(before, copy(features()), strict=True):
        assert torch.equal(old, new)
    copy.prompt.contexts.neg_()
    close(copy(features()), outputs(copy, features(), NAMES))
    assert not torch.allclose(copy(features())[-1], before[-1])
    copy.set_class_names(MORE_NAMES)
    copy(features())
    for old, new in zip(before, neck(features()), strict=True):
        assert torch.equal(old, new)


# Training


def segmentor(clip: dict, **changes: object) -> nn.Module:
    """A whole model of 64 x 64 images."""
    neck = dict(
        type='PixelTextNeck', class_names=NAMES, score_map_index=3, neck=FPN,
        text_encoder=dict(type='CLIPTextTower', model=clip), context_decoder=DECODER,
        prompt=dict(type='LearnedContext', num_context=3))
    torch.manual_seed(0)
    model = MODELS.build(dict(
        type='EncoderDecoder',
        backbone=dict(type='CLIPResNet', model=clip, image_size=64),
        neck={**neck, **changes},
        decode_head=dict(type='FPNHead', in_channels=[8] * 4, in_index=[0, 1, 2, 3],
                         feature_strides=[4, 8, 16, 32], channels=8, num_classes=4,
                         dropout_ratio=0, norm_cfg=dict(type='BN')),
        auxiliary_head=dict(type='ScoreMapHead', in_index=4, num_classes=4,
                            loss_decode=dict(type='CrossEntropyLoss', loss_weight=0.4))))
    model.init_weights()
    return model.train()


def loss(model: nn.Module) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 64, 64, generator=generator)
    labels = torch.randint(0, 4, (2, 1, 64, 64), generator=generator)
    samples = [SegDataSample(gt_sem_seg=PixelData(data=label)) for label in labels]
    return model.parse_losses(model.loss(images, samples))[0]


@pytest.mark.parametrize('variant', [name for name in VARIANTS if name != 'other level'])
def test_gradient_reaches_all_that_is_trained(variant: str, tiny_resnet: dict) -> None:
    """DistributedDataParallel stops at parameters that no loss depends on."""
    model = segmentor(tiny_resnet, **VARIANTS[variant])
    loss(model).backward()
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad != name.startswith('neck.text_encoder.'), name
        assert (parameter.grad is not None) == parameter.requires_grad, name


def test_tower_stays_frozen_under_the_published_schedule(tiny_resnet: dict) -> None:
    """A floor under the learning rate, as PolyLR's eta_min, thaws towers frozen by lr_mult=0."""
    config = Config.fromfile(SCHEDULE)
    warm_up, decay = config.param_scheduler
    warm_up.end, decay.begin, decay.end = 3, 3, 8
    assert decay.eta_min == 1e-6
    model = segmentor(tiny_resnet)
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    schedulers = [PARAM_SCHEDULERS.build(scheduler, default_args=dict(optimizer=wrapper))
                  for scheduler in (warm_up, decay)]
    before = deepcopy(model.state_dict())
    rates = []
    for _ in range(10):
        rates.append(sorted({group['lr'] for group in wrapper.param_groups}))
        wrapper.update_params(loss(model))
        assert not any(module.training for module in model.neck.text_encoder.modules())
        for scheduler in schedulers:
            scheduler.step()
    assert rates[0] == pytest.approx([1e-11, 1e-10])
    assert rates[3] == pytest.approx([1e-5, 1e-4])
    assert rates[9] == pytest.approx([1e-6])

    after = model.state_dict()
    tower = [name for name in before if name.startswith('neck.text_encoder.')]
    assert len(tower) > 20
    for name in tower:
        assert torch.equal(before[name], after[name]), name
    for name in ('neck.prompt.contexts', 'neck.gamma', 'neck.neck.lateral_convs.3.conv.weight',
                 'neck.context_decoder.out_proj.1.weight', 'backbone.tower.conv1.weight'):
        assert not torch.equal(before[name], after[name]), name
    assert set(wrapper.optimizer.state) == {
        parameter for name, parameter in model.named_parameters() if name not in tower}


def test_necks_in_a_row(tiny_resnet: dict) -> None:
    """The score maps go into the first; checkpoints of one alone keep their names."""
    second = dict(type='FPN', in_channels=[8] * 4, out_channels=6, num_outs=4)
    row = build(tiny_resnet, neck=[FPN, second])
    one = build(tiny_resnet, neck=[FPN])
    assert one.state_dict().keys() == build(tiny_resnet).state_dict().keys()
    alone = MODELS.build(second).eval()
    alone.load_state_dict(row.neck[1].state_dict())
    one.load_state_dict({key.replace('neck.0.', 'neck.'): value
                         for key, value in row.state_dict().items() if 'neck.1.' not in key})
    *maps, score_map = row(features())
    *given, own = one(features())
    for ours, expected in zip(maps, alone(given), strict=True):
        torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(score_map, own)


# Refusals


@pytest.mark.parametrize('tau', [0, -0.07, float('nan'), float('inf')])
def test_temperatures_that_are_none(tau: float, tiny_resnet: dict) -> None:
    """Wherever a score map is divided by one; a negative one would turn every answer round."""
    head = dict(num_classes=4, in_channels=[8], in_index=[0], channels=8, feature_strides=[4],
                score_map_stride=8)
    for make in (partial(build, tiny_resnet), ScoreMapHead, BoxScoreMapLoss, CostAggregationHead):
        options = {ScoreMapHead: dict(num_classes=4), CostAggregationHead: head}.get(make, {})
        with pytest.raises(ValueError, match=f'tau={tau} is no temperature, which is over 0'):
            make(tau=tau, **options)


@pytest.mark.parametrize(('neck', 'message'), [
    (dict(type='DilatedEncoder', in_channels=256), 'neck DilatedEncoder has in_channels=256; it'),
    (dict(type='Feature2Pyramid', embed_dim=64), 'neck Feature2Pyramid has in_channels=None; it'),
])
def test_necks_of_a_single_map(neck: dict, message: str, tiny_resnet: dict) -> None:
    with pytest.raises(ValueError, match=message):
        build(tiny_resnet, neck=neck)


def test_a_neck_of_fewer_maps_than_there_are(tiny_resnet: dict) -> None:
    neck = build(tiny_resnet, neck={**FPN, 'in_channels': CHANNELS[1:]}, score_map_index=2)
    with pytest.raises(ValueError, match='the backbone gives 4 maps, and in_channels of the '
                                         'wrapped neck has 3; write the channels of all 4'):
        neck(features())


@pytest.mark.parametrize('index', [-1, 4])
def test_index_of_no_map(index: int, tiny_resnet: dict) -> None:
    with pytest.raises(ValueError, match=rf"score_map_index={index} is no index of the wrapped "
                       r"neck's in_channels=\[32, 64, 128, 256\]"):
        build(tiny_resnet, score_map_index=index)


@pytest.mark.parametrize(('sizes', 'message'), [
    (SIZES, r'score_map_index=3 is a map of \(2, 3\) cells, but the dense embedding has \(4, 6\); '
     r'use \[2\]'),
    ([(16, 24), (8, 12), (5, 6), (2, 3)], 'use a backbone with a map of that size'),
])
def test_index_of_a_map_of_another_size(sizes: list[tuple[int, int]], message: str,
                                        tiny_resnet: dict) -> None:
    maps = [torch.zeros(2, channels, *size)
            for channels, size in zip(CHANNELS, sizes, strict=True)]
    with pytest.raises(ValueError, match=message):
        build(tiny_resnet)((*maps, features(level=2)[-1]))


def test_embeddings_of_another_size(tiny_resnet: dict) -> None:
    *maps, (image, dense) = features()
    with pytest.raises(ValueError, match=r'image is embedded in 16 channels, the text in 24; use '
                       r'the image and text tower of one model, or set embed_dim .* to 24'):
        build(tiny_resnet)((*maps, (image[:, :16], dense[:, :16])))


def test_unknown_keyword(tiny_resnet: dict) -> None:
    with pytest.raises(TypeError, match='taw'):
        build(tiny_resnet, taw=0.07)
