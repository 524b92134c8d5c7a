"""What a command line, a recipe and bab.toml ask for, merged and checked."""
