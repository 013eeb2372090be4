"""Models for use elsewhere compute what they computed before."""

import json
from pathlib import Path

from denseclip_mm.apis.checkpoints.export import (
    WholeImage,
    drop_text_tower,
    export_onnx,
    save_without_text_tower,
)
from denseclip_mm.apis.inference import Predictor
from denseclip_mm.demo.scenes import draw

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from mmengine.config import Config
from mmseg.apis import inference_model, init_model
from mmseg.registry import MODELS

ROOT = Path(__file__).resolve().parents[3]
NAMES = ['cat', 'dog;puppy', 'oak tree', 'sky']
DECODER = dict(width=16, num_heads=2, num_layers=1)
POST = dict(context_decoder=dict(type='ContextDecoder', **DECODER), gamma=0.5)
NECKS = {
    'post-model': dict(prompt=dict(type='LearnedContext', num_context=3), **POST),
    'class-specific': dict(prompt=dict(type='LearnedContext', class_specific=True)),
    'templates': dict(prompt=dict(type='TemplatePrompt', templates=['{}', 'a {}.'])),
    'pre-model': dict(prompt=dict(type='VisualContext', num_context=3, **DECODER)),
    'cocoop': dict(prompt=dict(type='ConditionalContext', num_context=3)),
    'aggregate': dict(prompt=dict(type='LearnedContext', num_context=3), score_map_index=None,
                      **POST),
}


# Channels of the maps, and which of them the score map joins; those of timm by name.
MAPS = {
    'CLIPResNet': ([32, 64, 128, 256], 3),
    'CLIPVisionTransformer': ([64] * 4, 2),
    'siglip': ([24] * 4, 2),
    'eva02': ([64] * 4, 2),
    'pe': ([64] * 4, 2),
    'vitamin': ([64] * 4, 2),
    'fastvit': ([32, 32, 64, 64], 3),
    'convnext': ([24, 32, 48, 64], 3),
}


def write_model(clip: dict, folder: Path, neck: dict, kind: str = 'CLIPResNet') -> list[str]:
    """A config and a checkpoint of random weights; their paths."""
    channels, index = MAPS[kind]
    head = dict(type='FPNHead')
    if 'score_map_index' in neck:
        head = dict(type='CostAggregationHead', score_map_stride=2**(2 + index))
    cfg = Config(dict(
        custom_imports=dict(imports=['denseclip_mm']),
        model=dict(
            type='EncoderDecoder',
            data_preprocessor=dict(type='SegDataPreProcessor', bgr_to_rgb=True, size=(64, 64),
                                   mean=[122.8, 116.7, 104.1], std=[68.5, 66.6, 70.3]),
            backbone=dict(type=kind if kind.startswith('CLIP') else 'CLIPTIMMBackbone', model=clip,
                          image_size=64),
            neck={**dict(
                type='PixelTextNeck', class_names=NAMES, score_map_index=index,
                text_encoder=dict(type='CLIPTextTower', model=clip),
                neck=dict(type='FPN', in_channels=channels, out_channels=8, num_outs=4)), **neck},
            decode_head=dict(in_channels=[8] * 4, in_index=[0, 1, 2, 3],
                             feature_strides=[4, 8, 16, 32], channels=8, num_classes=4,
                             norm_cfg=dict(type='BN'), align_corners=False, **head),
            auxiliary_head=dict(type='ScoreMapHead', num_classes=4),
            test_cfg=dict(mode='whole')),
        test_pipeline=[dict(type='LoadImageFromFile'), dict(type='PackSegInputs')]))
    folder.mkdir(parents=True, exist_ok=True)
    cfg.dump(folder / 'given.py')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    for module in model.modules():  # logits that depend on the image
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 2)
    for name, parameter in model.decode_head.named_parameters():
        if name.startswith(('exit', 'mix')):  # which start from zero
            torch.nn.init.normal_(parameter, std=0.5)
    meta = dict(dataset_meta=dict(classes=tuple(NAMES), palette=[[9, 9, 9]] * 4))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), folder / 'given.pth')
    return [str(folder / 'given.py'), str(folder / 'given.pth')]


def logits_of(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Through mmseg's own preprocessor and whole-image mode."""
    batch = model.data_preprocessor(dict(inputs=[image.flip(0) for image in images]), False)
    size = tuple(images.shape[2:])
    with torch.no_grad():
        return model.encode_decode(
            batch['inputs'], [dict(img_shape=size, ori_shape=size, pad_shape=size)] * len(images))


IMAGES = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(3)) * 255


@pytest.mark.parametrize(('kind', 'tower'), [
    *((kind, 'CLIPResNet') for kind in ('post-model', 'class-specific', 'templates', 'aggregate')),
    *(('post-model', tower) for tower in ('siglip', 'eva02', 'convnext'))])
def test_a_checkpoint_without_the_tower(tiny_resnet, timm_clip, tmp_path, kind, tower) -> None:
    clip = tiny_resnet if tower == 'CLIPResNet' else timm_clip(tower)
    given = init_model(*write_model(clip, tmp_path, NECKS[kind], tower), device='cpu')
    before = given.state_dict()
    config, checkpoint = save_without_text_tower(given, tmp_path / 'out')
    assert given.neck.text_encoder is not None
    assert list(given.state_dict()) == list(before)
    model = init_model(str(config), str(checkpoint), device='cpu')
    assert model.neck.text_encoder is None
    assert not any('text_encoder' in key for key in model.state_dict())
    assert model.neck.class_names == NAMES  # synonyms, too
    assert model.dataset_meta == given.dataset_meta
    assert torch.equal(logits_of(model, IMAGES), logits_of(given, IMAGES))
    saved = torch.load(checkpoint, weights_only=True)['state_dict']
    tower = sum(value.numel() for value in given.neck.text_encoder.state_dict().values())
    assert sum(value.numel() for value in saved.values()) < sum(
        value.numel() for value in before.values()) - tower + 1000
    with pytest.raises(ValueError, match='cannot be changed'):
        model.neck.set_class_names(['cat', 'dog'])


def test_rn50_without_the_tower(tmp_path) -> None:
    """The shipped config at full size: at most 210 MB, and the same logits."""
    cfg = Config.fromfile(ROOT / 'configs/denseclip_fpn.py')
    cfg.model.test_cfg = dict(mode='whole')
    torch.manual_seed(0)
    given = init_model(cfg, device='cpu')
    given.neck.gamma.data.fill_(0.5)
    given.dataset_meta = dict(classes=tuple(given.neck.class_names), palette=None)
    config, checkpoint = save_without_text_tower(given, tmp_path)
    model = init_model(str(config), str(checkpoint), device='cpu')
    assert 195e6 < checkpoint.stat().st_size < 210e6
    ours, theirs = logits_of(model, IMAGES), logits_of(given, IMAGES)
    assert theirs.std() > 0 and (ours - theirs).abs().max() <= 1e-6 * theirs.abs().max()


def test_text_that_depends_on_the_image_keeps_its_tower(tiny_resnet, tmp_path) -> None:
    for kind in ('pre-model', 'cocoop'):
        model = init_model(*write_model(tiny_resnet, tmp_path, NECKS[kind]), device='cpu')
        with pytest.raises(ValueError, match='asks the text tower anew for every image'):
            drop_text_tower(model)
        assert model.neck.text_encoder is not None


def test_another_number_of_names_than_the_decoder_takes(tiny_resnet, tmp_path) -> None:
    model = init_model(*write_model(tiny_resnet, tmp_path, NECKS['post-model']), device='cpu')
    model.neck.set_class_names(['cat', 'sea'])
    with pytest.raises(ValueError, match='takes 4 score maps, but the names were changed to 2'):
        drop_text_tower(model)
    model.neck.set_class_names(['bus', 'sea', 'road', 'cat'])
    expected = logits_of(model, IMAGES)
    drop_text_tower(model)
    assert torch.equal(logits_of(model, IMAGES), expected)


@pytest.mark.parametrize('config', ['zero_shot_scenes', 'denseclip_fpn_scenes', 'coop_scenes',
                                    'denseclip_aggregate_scenes'])
@pytest.mark.parametrize('names', [
    [f'thing {number}' for number in range(29)] + ['snow;ice'], ['snow;ice', 'red star', 'grass'],
    [f'thing {number}' for number in range(33)]], ids=['as many', 'fewer', 'more'])
def test_export_after_a_change_of_names(config: str, names: list[str], tmp_path: Path) -> None:
    """``init_model`` and ``Predictor`` give the predictor's labels to the bit."""
    given, trained = ROOT / f'configs/demo/{config}.py', None
    if config != 'zero_shot_scenes':
        model, trained = MODELS.build(Config.fromfile(given).model), tmp_path / 'trained.pth'
        model.init_weights()
        torch.save(dict(state_dict=model.state_dict()), trained)
    image = draw(1, 5, 128)[0]
    cv2.imwrite(str(tmp_path / 'scene.png'), image)
    predictor = Predictor(given, trained, device='cpu', class_names=names)
    expected = predictor(tmp_path / 'scene.png')
    assert len(np.unique(expected.labels)) > 1

    files = save_without_text_tower(predictor.model, tmp_path / 'out')
    result = inference_model(init_model(*map(str, files), device='cpu'),
                             str(tmp_path / 'scene.png'))
    assert np.array_equal(result.pred_sem_seg.data[0], expected.labels)
    exported = Predictor(*files, device='cpu')
    again = exported(tmp_path / 'scene.png')
    assert np.array_equal(again.labels, expected.labels)
    assert np.array_equal(again.score_map, expected.score_map)
    assert again.class_names == names and again.palette == expected.palette
    assert exported.model.neck.text_encoder is None

    predictor.set_class_names(['snow', 'sand'])  # export has changed nothing
    assert np.array_equal(predictor(tmp_path / 'scene.png').labels,
                          Predictor(given, trained, device='cpu', class_names=['snow', 'sand'])(
                              tmp_path / 'scene.png').labels)


def test_names_changed_in_the_neck_are_those_of_the_export(tiny_resnet, tmp_path) -> None:
    model = init_model(*write_model(tiny_resnet, tmp_path, NECKS['post-model']), device='cpu')
    names = ['bus', 'sea', 'road', 'cat']
    model.neck.set_class_names(names)
    files = save_without_text_tower(model, tmp_path / 'out')
    exported = init_model(*map(str, files), device='cpu')
    assert list(exported.dataset_meta['classes']) == exported.neck.class_names == names
    assert torch.equal(logits_of(exported, IMAGES), logits_of(model, IMAGES))


def test_files_stay_where_an_export_would_not_work(tiny_resnet, tmp_path, monkeypatch) -> None:
    """Older files are as they were; nothing else is left."""
    model = init_model(*write_model(tiny_resnet, tmp_path, NECKS['post-model']), device='cpu')
    out = tmp_path / 'out'
    files = save_without_text_tower(model, out)
    before = [path.read_bytes() for path in files]
    refused = init_model(*write_model(tiny_resnet, tmp_path, NECKS['post-model']), device='cpu')
    refused.decode_head.conv_seg = torch.nn.Conv2d(8, 5, 1)  # not what its config says
    with pytest.raises(ValueError, match=r'size mismatch for decode_head.conv_seg'):
        save_without_text_tower(refused, out)
    zero_shot = Predictor(ROOT / 'configs/demo/zero_shot_scenes.py', device='cpu').model
    zero_shot.neck.set_class_names(['grass', 'snow'])  # its head still answers 30
    with pytest.raises(ValueError, match=r'has 2 classes, this head num_classes=30'):
        save_without_text_tower(zero_shot, out)
    monkeypatch.setattr('denseclip_mm.apis.checkpoints.export.load_checkpoint', lambda *_: None)
    with pytest.raises(ValueError, match='give other outputs than the model; nothing was exported'):
        save_without_text_tower(model, out)
    assert [path.read_bytes() for path in files] == before
    assert sorted(path.name for path in out.iterdir()) == ['config.py', 'model.pth']


def test_a_model_without_language_stays_as_it_is(tiny_resnet) -> None:
    model = torch.nn.Module()
    model.neck = torch.nn.Identity()
    drop_text_tower(model)
    assert isinstance(model.neck, torch.nn.Identity)


def same_logits(model: torch.nn.Module, session: onnxruntime.InferenceSession) -> None:
    """In onnxruntime as in PyTorch, at sizes that the export never saw."""
    for shape in ((1, 64, 64), (3, 96, 64), (2, 100, 130)):
        images = torch.rand(shape[0], 3, *shape[1:]) * 255
        logits, = session.run(None, {'images': images.numpy()})
        expected = logits_of(model, images).numpy()
        np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())
        assert expected.std((0, 2, 3)).min() > 0


@pytest.mark.one_stack
@pytest.mark.parametrize('kind', ['post-model', 'pre-model', 'vit', 'aggregate'])
def test_onnx(tiny_resnet, tiny_vit, tmp_path, kind) -> None:
    """Compared here with mmseg's own way from pixels to logits, at sizes the export never saw."""
    clip, backbone, neck = tiny_resnet, 'CLIPResNet', NECKS.get(kind)
    if kind == 'vit':
        clip, backbone, neck = tiny_vit, 'CLIPVisionTransformer', NECKS['post-model']
    model = init_model(*write_model(clip, tmp_path, neck, backbone), device='cpu')
    path = tmp_path / 'out/model.onnx'
    assert export_onnx(model, path, [(64, 64)]) < 1e-5
    session = onnxruntime.InferenceSession(path)
    assert json.loads(session.get_modelmeta().custom_metadata_map['classes']) == NAMES
    assert [node.name for node in session.get_inputs()] == ['images']
    same_logits(model, session)
    held = path.stat().st_size
    with_tower = sum(p.numel() for p in model.neck.text_encoder.parameters()) * 4
    assert (held > with_tower) == (kind == 'pre-model')


@pytest.mark.one_stack
@pytest.mark.parametrize('tower', ['siglip', 'eva02', 'pe', 'vitamin', 'fastvit', 'convnext'])
def test_onnx_of_towers_of_timm(timm_clip, tmp_path, tower) -> None:
    files = write_model(timm_clip(tower), tmp_path, NECKS['post-model'], tower)
    model = init_model(*files, device='cpu')
    path = tmp_path / 'out/model.onnx'
    assert export_onnx(model, path, [(64, 64)]) < 1e-5
    same_logits(model, onnxruntime.InferenceSession(path))


@pytest.mark.one_stack
def test_onnx_that_differs_is_not_written(tiny_vit, tmp_path, monkeypatch) -> None:
    files = write_model(tiny_vit, tmp_path, NECKS['templates'], 'CLIPVisionTransformer')
    model = init_model(*files, device='cpu')
    original = WholeImage.forward

    def forward(self: WholeImage, images: torch.Tensor) -> torch.Tensor:
        logits = original(self, images)
        return logits if torch.compiler.is_exporting() else logits + 1
    monkeypatch.setattr(WholeImage, 'forward', forward)
    with pytest.raises(ValueError, match='nothing was written'):
        export_onnx(model, tmp_path / 'out/model.onnx', [(64, 64)])
    assert not list((tmp_path / 'out').iterdir())


def test_the_tool(tiny_vit, tmp_path, run_tool, succeed) -> None:
    given = write_model(tiny_vit, tmp_path, NECKS['post-model'], 'CLIPVisionTransformer')
    succeed('export', *given, '--out', 'there', '--sizes', '64x64', cwd=tmp_path)
    assert sorted(path.name for path in (tmp_path / 'there').iterdir()) == [
        'config.py', 'model.onnx', 'model.pth']
    model = init_model(str(tmp_path / 'there/config.py'), str(tmp_path / 'there/model.pth'),
                       device='cpu')
    session = onnxruntime.InferenceSession(tmp_path / 'there/model.onnx')
    logits, = session.run(None, {'images': IMAGES.numpy()})
    expected = logits_of(model, IMAGES)
    assert (torch.from_numpy(logits) - expected).abs().max() < 1e-4 * expected.abs().max()

    refused = run_tool('export', given[0], 'none.pth', cwd=tmp_path)
    assert refused.returncode == 1
    assert "error: there is no checkpoint 'none.pth'" in refused.stderr
    given = write_model(tiny_vit, tmp_path / 'pre', NECKS['pre-model'], 'CLIPVisionTransformer')
    refused = run_tool('export', *given, '--out', 'nowhere', cwd=tmp_path)
    assert refused.returncode == 1
    assert 'error: model.neck: VisualContext asks the text tower' in refused.stderr
    assert not (tmp_path / 'nowhere').exists()


def test_the_tool_exports_other_names(tmp_path, run_tool, succeed) -> None:
    """Of a zero-shot config: both kinds of file answer to them."""
    config = ROOT / 'configs/demo/zero_shot_scenes.py'
    words = (config, 'none', '--classes', 'snow;ice, red star, grass', '--sizes', '64x64')
    succeed('export', *words, '--out', 'there', cwd=tmp_path)
    exported = Predictor(tmp_path / 'there/config.py', tmp_path / 'there/model.pth', device='cpu')
    assert exported.class_names == ['snow;ice', 'red star', 'grass']
    session = onnxruntime.InferenceSession(tmp_path / 'there/model.onnx')
    logits, = session.run(None, {'images': IMAGES.numpy()})
    expected = logits_of(exported.model, IMAGES)
    assert logits.shape == expected.shape == (2, 3, 64, 96)
    assert (torch.from_numpy(logits) - expected).abs().max() < 1e-4 * expected.abs().max()
    refused = run_tool('export', config, 'none', '--classes', 'snow', cwd=tmp_path)
    assert refused.returncode == 1 and "error: 'snow' alone leaves nothing" in refused.stderr
