"""Section 124.1a: an image classifier that says how sure it is, and when to ask a person.

One system a file: ``thresholds`` decides, ``calibration`` makes probabilities hold and judges them,
``grad_cam`` draws what a score rests on, ``diagnosis`` puts them around a network and refers cases
to a person. ``phantoms`` makes pictures of which all is known, ``network`` learns from them, and
``windows`` turns stored values of DICOM into grey levels.
"""
