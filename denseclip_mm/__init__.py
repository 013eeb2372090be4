"""DenseCLIP for mmsegmentation 1.x.

Importing the package (``custom_imports`` in a config does) repairs what the installed OpenMMLab
stack needs and registers the types below, for mmseg and mmdet configs alike. Configs can inherit
those of the package once it is imported: ``_base_ = ['denseclip_mm::demo/coop_scenes.py']``.
"""

from denseclip_mm import compat

compat.stub_missing_ops()
compat.load_data_only()
compat.name_configs()

from denseclip_mm.apis import Detection, Prediction, Predictor  # noqa: E402
from denseclip_mm.backbones import (  # noqa: E402
    AlignedBackbone,
    CLIPResNet,
    CLIPTIMMBackbone,
    CLIPVisionTransformer,
)
from denseclip_mm.demo import SceneBackend, ScenesDataset  # noqa: E402
from denseclip_mm.engine import (  # noqa: E402
    ChannelsLastHook,
    CheckClassesHook,
    CheckLossHook,
    LabelMapHook,
    PredictionVisualizationHook,
    PromptWordsHook,
    ResumableCheckpointHook,
    RunSummaryHook,
    ScoreMapVisualizationHook,
    WholeFileBackend,
    WholeVisBackend,
)
from denseclip_mm.models import (  # noqa: E402
    BoxScoreMapLoss,
    ClassWeightSampler,
    ConditionalContext,
    ContextDecoder,
    CostAggregationHead,
    PiecewiseFPNHead,
    PixelTextNeck,
    ScoreMapDetector,
    ScoreMapHead,
    VisualContext,
)
from denseclip_mm.text import (  # noqa: E402
    CLIPTextTower,
    DiscreteContext,
    LearnedContext,
    TemplatePrompt,
    TextEmbeddings,
)
from denseclip_mm.version import __version__  # noqa: E402

from mmengine.fileio import register_backend  # noqa: E402
from mmengine.registry import DATASETS, HOOKS, MODELS, TASK_UTILS, VISBACKENDS  # noqa: E402

_REGISTERED = {
    MODELS: (
        AlignedBackbone, CLIPTIMMBackbone, CLIPResNet, CLIPVisionTransformer, CLIPTextTower,
        LearnedContext, DiscreteContext, TemplatePrompt, TextEmbeddings, ConditionalContext,
        VisualContext, ContextDecoder, PixelTextNeck, CostAggregationHead, PiecewiseFPNHead,
        ScoreMapHead, BoxScoreMapLoss, ScoreMapDetector),
    DATASETS: (ScenesDataset, ),
    HOOKS: (ChannelsLastHook, CheckClassesHook, CheckLossHook, LabelMapHook,
            PredictionVisualizationHook, PromptWordsHook, ResumableCheckpointHook,
            RunSummaryHook, ScoreMapVisualizationHook),
    TASK_UTILS: (ClassWeightSampler, ),
    VISBACKENDS: (WholeVisBackend, ),
}
for _registry, _classes in _REGISTERED.items():
    for _class in _classes:
        _registry.register_module(module=_class)
register_backend('local', WholeFileBackend, force=True, prefixes='')
register_backend('scene', SceneBackend, prefixes='scene')

__all__ = ['Detection', 'Prediction', 'Predictor', '__version__',
           *(cls.__name__ for classes in _REGISTERED.values() for cls in classes)]
