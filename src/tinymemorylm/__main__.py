"""`python -m tinymemorylm`: the command line where only a module can be named, as to torchrun."""

import sys

from tinymemorylm.cli import main

if __name__ == "__main__":
    sys.exit(main())
