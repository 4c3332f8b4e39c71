"""Install mmseg-opengan: ``pip install -e .``"""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(
    r"__version__ = '(.+?)'", (ROOT / 'mmseg_opengan' / '__init__.py').read_text()
).group(1)
REQUIREMENTS = [
    line.strip()
    for line in (ROOT / 'requirements.txt').read_text().splitlines()
    if line.strip() and not line.startswith(('#', '-'))
]

setup(
    name='mmseg-opengan',
    version=VERSION,
    description='OpenGAN (ICCV 2021) on MMSegmentation: open-set segmentation for any decode head',
    long_description=(ROOT / 'README.md').read_text() if (ROOT / 'README.md').exists() else '',
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['mmseg_opengan', 'mmseg_opengan.*']),
    package_data={'mmseg_opengan': ['py.typed']},
    python_requires='>=3.10,<3.13',
    install_requires=REQUIREMENTS,
)
