# CLIP on ADE20K, both towers frozen: tested as it is (zero-shot), or its prompts are learned.
_base_ = ['./models/model_clip_score_map_r50.py', './datasets/ade20k_512x512.py',
          './schedules/schedule_coop.py', './default_runtime.py']
