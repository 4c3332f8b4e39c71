"""Install mmseg-opengan: ``pip install -e ".[mmseg]"``"""

import re
import shutil
import tempfile
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
VERSION = re.search(
    r"__version__ = '(.+?)'", (ROOT / 'mmseg_opengan' / '__init__.py').read_text()
).group(1)
#: Build outputs lie outside the checkout, where an old one would end in the next wheel.
BUILD = tempfile.TemporaryDirectory(prefix='mmseg-opengan-build-')


class BuildWithConfigs(build_py):
    """Adds ``mmseg_opengan/.mim``, the folder in which mmengine and openmim look for configs."""

    def run(self):
        super().run()
        if self.editable_mode:
            return  # an editable install reads the checkout's own folders
        mim = Path(self.build_lib, 'mmseg_opengan', '.mim')
        for name in ('configs', 'tools'):
            ignored = shutil.ignore_patterns('__pycache__')
            shutil.copytree(ROOT / name, mim / name, ignore=ignored, dirs_exist_ok=True)
        shutil.copy2(ROOT / 'model-index.yml', mim)


def requirements(name):
    lines = (ROOT / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith('#')]


setup(
    name='mmseg-opengan',
    version=VERSION,
    description='OpenGAN (ICCV 2021) on MMSegmentation: open-set segmentation for any decode head',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['mmseg_opengan', 'mmseg_opengan.*']),
    package_data={'mmseg_opengan': ['py.typed', 'pictures/report.css', 'pictures/report.js']},
    python_requires='>=3.10,<3.13',
    install_requires=requirements('requirements.txt'),
    extras_require={
        'mmseg': requirements('requirements-mmseg.txt'),
        'export': ['onnx>=1.16', 'onnxscript>=0.5', 'onnxruntime>=1.18'],
        'smiyc': ['h5py>=3.8'],
        'fiftyone': ['fiftyone>=1.0'],
    },
    entry_points={'console_scripts': ['mmseg-opengan = mmseg_opengan.cli:main']},
    cmdclass={'build_py': BuildWithConfigs},
    options={'build': {'build_base': BUILD.name}, 'egg_info': {'egg_base': BUILD.name}},
)
