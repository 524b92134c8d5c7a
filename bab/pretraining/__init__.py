"""One pretraining run: crops, masks, a self-supervised loss, an encoder to export."""
