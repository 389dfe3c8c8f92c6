"""Texts in and out: files of an editor, and what receivers ask for."""
