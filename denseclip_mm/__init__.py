"""DenseCLIP for mmsegmentation 1.x.

Importing the package (``custom_imports`` in a config does) repairs what the installed OpenMMLab
stack needs and registers the types below, for mmseg and mmdet configs alike. Configs can inherit
those of the package once it is imported: ``_base_ = ['denseclip_mm::demo/coop_scenes.py']``.
"""

import gc

# What imports make stays, so looking for garbage in it is in vain: a fifth of their time.
_collecting = gc.isenabled()
gc.disable()
try:
    from denseclip_mm import compat

    compat.stub_missing_ops()
    compat.load_data_only()
    compat.name_configs()
    compat.start_data_late()

    from denseclip_mm.apis import Detection, Prediction, Predictor
    from denseclip_mm.backbones import (
        AlignedBackbone,
        CLIPResNet,
        CLIPTIMMBackbone,
        CLIPVisionTransformer,
    )
    from denseclip_mm.demo import SceneBackend, ScenesDataset
    from denseclip_mm.engine import (
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
    from denseclip_mm.models import (
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
    from denseclip_mm.text import (
        CLIPTextTower,
        DiscreteContext,
        LearnedContext,
        TemplatePrompt,
        TextEmbeddings,
    )
    from denseclip_mm.version import __version__

    from mmengine.fileio import register_backend
    from mmengine.registry import DATASETS, HOOKS, MODELS, TASK_UTILS, VISBACKENDS
finally:
    gc.freeze()
    gc.unfreeze()  # the two count what is there as old: else all of it is looked through thrice
    if _collecting:
        gc.enable()

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
