"""`python -m duodiff_pipeline` runs what `kedro` runs."""

from kedro.framework.cli import main

if __name__ == "__main__":
    main()
