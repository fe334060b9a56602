"""The command gpunet-train: main.py is the door, one file a subcommand."""
