"""Packaging of denseclip_mm."""

import re
from pathlib import Path

from setuptools import find_packages, setup

root = Path(__file__).parent
version: dict[str, str] = {}
exec((root / 'denseclip_mm' / 'version.py').read_text(), version)
# On a package index neither the pictures nor the pages of the repository are beside README.
readme = re.sub(r'!\[[^]]*]\((?!https:)[^)]*\)\n*', '', (root / 'README.md').read_text('utf-8'))
readme = re.sub(r'\[([^]]*)]\((?!https:)[^)]*\)', r'\1', readme)
onnx = ['onnx', 'onnxruntime', 'onnxscript']  # tools/export.py
app = ['gradio>=6.31,<7']  # tools/app.py
transformers = ['transformers>=5.24,<6', 'sentencepiece', 'protobuf']  # SigLIP's tokenizers
docs = ['mkdocs-material', 'mkdocstrings[python]']  # make docs

setup(
    name='denseclip_mm',
    version=version['__version__'],
    description='Language-guided dense prediction (DenseCLIP) for mmsegmentation 1.x',
    long_description=readme,
    long_description_content_type='text/markdown',
    author='The authors of denseclip_mm',
    license='Apache-2.0',
    project_urls={'Paper': 'https://arxiv.org/abs/2112.01518'},
    keywords='computer vision, semantic segmentation, open vocabulary, CLIP, DenseCLIP, prompts, '
             'mmsegmentation, OpenMMLab',
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Developers',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3 :: Only',
        'Programming Language :: Python :: 3.11',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Topic :: Scientific/Engineering :: Image Recognition',
        'Typing :: Typed',
    ],
    python_requires='>=3.11',
    packages=find_packages(include=['denseclip_mm', 'denseclip_mm.*']),
    # .mim holds links to configs, tools and model-index.yml: OpenMMLab's place for them.
    package_data={'denseclip_mm': ['py.typed', 'demo/*', '.mim/**/*.py', '.mim/**/*.yml',
                                   '.mim/**/*.sh']},
    entry_points={'console_scripts': ['denseclip-mm = denseclip_mm.__main__:main']},
    # The versions that the whole suite was run with, to below the next ones that nobody tried.
    install_requires=[
        'torch>=2.11,<2.12',
        'torchvision>=0.26,<0.27',
        'open_clip_torch>=3.3,<4',
        'timm>=1.0.31',  # older ones leave parts that no map needs, which DDP then waits for
        'numpy>=2.4,<3',
        'safetensors',
        'pillow',
        'regex',
        'scipy',
        'tqdm',
        'setuptools<81',  # mmengine imports pkg_resources
    ],
    # The two stacks install the same import names (mmseg, mmdet, mmengine, mmcv): pick one.
    extras_require={
        'openmmlab': ['mmsegmentation==1.2.2', 'mmengine>=0.10.7,<0.11', 'mmcv-lite>=2.1.0,<2.2.0'],
        'onedl': ['onedl-mmsegmentation>=1.4.2,<1.5', 'onedl-mmengine>=0.10.12,<0.11',
                  'onedl-mmcv>=2.3.6,<2.4'],
        # Detection, on top of either; no mmdet asks pip for an mmcv of its own.
        'mmdet': ['mmdet==3.3.0'],
        'onedl-mmdet': ['onedl-mmdetection>=3.5.1,<3.6'],
        'onnx': onnx,
        'app': app,
        'docs': docs,
        'transformers': transformers,
        'dev': ['pytest', 'pytest-xdist', 'ruff', 'playwright', 'tensorboard',
                'setuptools>=70.1',  # builds wheels by itself
                *onnx, *app, *docs, *transformers],
    },
)
