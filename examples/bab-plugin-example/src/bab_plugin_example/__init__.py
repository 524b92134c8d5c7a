"""An example plugin for bab. Nothing is imported until `mfcc` is asked for by name."""
