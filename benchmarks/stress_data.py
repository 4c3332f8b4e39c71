"""Kill extractions and trainings, then fuzz the readers of labels, lists, banks, stored taps and
checkpoints and the options of configs, seed after seed.

    python benchmarks/stress_data.py --kills 20 --minutes 10

Each seed's outcome is printed; ``pytest --hypothesis-seed=SEED`` repeats one.
"""

import argparse
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / 'tests'
FUZZ = ('test_features/test_fuzz_data.py', 'test_fuzz_configs.py')


def passes(test: str, *options: str, **environment: object) -> bool:
    """Run a test file with numbers in its environment; print what it says."""
    variables = {f'MMSEG_OPENGAN_{name}': str(value) for name, value in environment.items()}
    command = [sys.executable, '-m', 'pytest', '-q', '-rP', '-n', '0', str(TESTS / test)]
    done = subprocess.run(
        [*command, *options], env={**os.environ, **variables}, capture_output=True, text=True
    )
    lines = done.stdout.splitlines()
    said = (' kills, ',) if done.returncode == 0 else ('FAILED', 'ERROR', 'E  ')
    shown = [line for line in lines if any(word in line for word in said)]
    print(*shown, sep='\n', end='\n' if shown else '')
    print(f'{test} {" ".join(options)}: rc {done.returncode}', flush=True)
    return done.returncode == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--kills', type=int, default=20, help='of a bank, of stored taps and of a training'
    )
    parser.add_argument('--minutes', type=float, default=10, help='of fuzzing')
    parser.add_argument('--examples', type=int, default=1000, help='of each test and seed')
    args = parser.parse_args()
    outcomes = [
        passes('test_features/test_killed_extraction.py', KILLS=args.kills),
        passes('test_engine/test_checkpoints.py', '-k', 'random_moments', KILLS=args.kills),
    ]
    end = time.monotonic() + 60 * args.minutes
    for seed in itertools.count(1):
        if time.monotonic() > end:
            break
        for test in FUZZ:
            outcomes.append(passes(test, f'--hypothesis-seed={seed}', FUZZ=args.examples))
    print(f'{len(outcomes)} runs, {outcomes.count(False)} failed')
    sys.exit(not all(outcomes))


if __name__ == '__main__':
    main()
