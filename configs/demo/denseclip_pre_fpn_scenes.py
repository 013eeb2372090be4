# DenseCLIP, pre-model prompting: the contexts are read from the image.
_base_ = './denseclip_fpn_scenes.py'
model = dict(
    neck=dict(
        prompt=dict(
            _delete_=True,
            type='VisualContext',
            num_context=8,
            width=64,
            num_heads=4,
            num_layers=3,
            dropout=0.1),
        context_decoder=None))
