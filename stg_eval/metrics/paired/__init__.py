"""Metrics of two clips that should look alike: one beside the other, frame by frame.

In a run the partner of a clip is the baseline variant's of the same case and seed: how much a guidance, or a faster
sampler, changes what is seen. In a folder it is the file of the same name under ``--reference``.
"""
