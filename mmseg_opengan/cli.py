"""The console script ``mmseg-opengan``: the files of ``tools/`` as commands."""

import runpy
import sys

from .shipped import shipped_folder

#: What each command does; its file in ``tools/`` has the same name, with ``_`` for ``-``.
COMMANDS = {
    'train': 'train D and G on a frozen segmentor',
    'test': 'test a checkpoint: AUROC, AP, FPR95 and mIoU',
    'visualize': 'draw score maps of images, folders, videos or a split of the data',
    'export': 'write a model as one ONNX or torch.export file',
    'smiyc': 'write a SegmentMeIfYouCan submission',
    'find': 'rank unlabelled frames by what is unknown in them; boxes and polygons',
    'bundle': 'write a model with all that it needs as one file',
    'benchmark': 'train and test several methods over several seeds, one table',
    'compare': 'one table and one set of figures from several tests',
    'report': 'one HTML page about several tests, with a slider over score maps',
    'sweep': 'tune lambda_G',
    'open-images': 'AUROC against the number of open training images',
    'robustness': 'scores on attacked and on corrupted images',
    'fit-scorers': 'fit the scorers of a config that learn',
    'extract-features': 'build the feature bank of a training config beforehand',
    'look-inside': 'show what a generator makes beside the real features',
}


def main() -> None:
    """Run the tool that the command line names, as ``python tools/NAME.py`` runs it."""
    command, *arguments = sys.argv[1:] or ['--help']
    if command in ('-h', '--help'):
        print('usage: mmseg-opengan COMMAND [arguments]', 'commands:', sep='\n\n')
        for name, text in COMMANDS.items():
            print(f'  {name:<18}{text}')
        print('\nmmseg-opengan COMMAND --help lists the arguments of a command.')
        return
    if command not in COMMANDS:
        sys.exit(f"mmseg-opengan: wanted one of {', '.join(COMMANDS)}, found '{command}'")
    tool = shipped_folder() / 'tools' / f'{command.replace("-", "_")}.py'
    sys.argv[1:] = arguments
    runpy.run_path(str(tool), run_name='__main__')


def one_checkpoint(parser, paths: list[str]) -> str | None:
    """The only checkpoint on a command line, whose shell may have put several files in the place of
    ``best_*.pth``; None of none. Otherwise the parser's error says what was found.
    """
    if len(paths) > 1:
        parser.error(f'CHECKPOINT: wanted one file, found {len(paths)}: {", ".join(paths)}')
    if paths and '*' in paths[0]:
        parser.error(f"CHECKPOINT: wanted one file, found none that matches '{paths[0]}'")
    return paths[0] if paths else None
