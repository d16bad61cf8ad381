"""Experiments of chapter 124, which its pages and their recorded cells run."""
