"""DenseCLIP for mmsegmentation 1.x.

Importing the package (``custom_imports`` in a config does) repairs what the installed OpenMMLab
stack needs and registers the types below, for mmseg and mmdet configs alike.
"""

from denseclip_mm import compat

compat.stub_missing_ops()
compat.allow_resume()

from mmengine.fileio import register_backend  # noqa: E402
from mmengine.registry import DATASETS, HOOKS, MODELS, TASK_UTILS  # noqa: E402

from denseclip_mm.backbones import (  # noqa: E402
    AlignedBackbone,
    CLIPConvNeXt,
    CLIPResNet,
    CLIPVisionTransformer,
)
from denseclip_mm.context_decoder import ContextDecoder  # noqa: E402
from denseclip_mm.datasets import SceneBackend, ScenesDataset  # noqa: E402
from denseclip_mm.head import ScoreMapHead  # noqa: E402
from denseclip_mm.hooks import ChannelsLastHook, CheckClassesHook, CompareValHook  # noqa: E402
from denseclip_mm.image_prompts import ConditionalContext, VisualContext  # noqa: E402
from denseclip_mm.neck import PixelTextNeck  # noqa: E402
from denseclip_mm.piecewise import PiecewiseFPNHead  # noqa: E402
from denseclip_mm.sampler import ClassWeightSampler  # noqa: E402
from denseclip_mm.score_map_hook import ScoreMapVisualizationHook  # noqa: E402
from denseclip_mm.text import (  # noqa: E402
    CLIPTextTower,
    LearnedContext,
    TemplatePrompt,
    TextEmbeddings,
)
from denseclip_mm.version import __version__  # noqa: E402

_REGISTERED = {
    MODELS: (
        AlignedBackbone, CLIPConvNeXt, CLIPResNet, CLIPVisionTransformer, CLIPTextTower,
        LearnedContext, TemplatePrompt, TextEmbeddings, ConditionalContext, VisualContext,
        ContextDecoder, PixelTextNeck, PiecewiseFPNHead, ScoreMapHead),
    DATASETS: (ScenesDataset, ),
    HOOKS: (ChannelsLastHook, CheckClassesHook, CompareValHook, ScoreMapVisualizationHook),
    TASK_UTILS: (ClassWeightSampler, ),
}
for _registry, _classes in _REGISTERED.items():
    for _class in _classes:
        _registry.register_module(module=_class)
register_backend('scene', SceneBackend, prefixes='scene')

__all__ = ['__version__', *(cls.__name__ for classes in _REGISTERED.values() for cls in classes)]
