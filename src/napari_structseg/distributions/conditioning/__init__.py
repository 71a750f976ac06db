"""What strokes tell about a distribution over logits.

``evidence`` is gathered at the stroke voxels alone; a ``posterior`` is made of it, whose cost does
not depend on the volume; a distribution of the same kind is ``given`` the posterior; and
:class:`~napari_structseg.distributions.conditioning.corrected.Corrected` sees to it that every
stroke voxel has its class, whether or not the model can explain that.
"""
