_base_ = './default_runtime.py'
default_scope = 'mmdet'
visualizer = dict(type='DetLocalVisualizer')
log_processor = dict(by_epoch=True)
sync_bn = 'torch'  # as published: batch norms train, synchronised over processes
tta_model = None
