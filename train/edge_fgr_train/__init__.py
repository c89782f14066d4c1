"""From folders of photographs to a checkpoint. Needs the extra ``train``."""
