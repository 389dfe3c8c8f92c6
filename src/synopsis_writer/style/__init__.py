"""The style gate: what a synopsis must hold before it is saved, one small pure function a check."""
