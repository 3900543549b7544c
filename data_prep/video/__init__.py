"""People in videos, each followed and written as a sequence of silhouettes."""

from data_prep.video.quality import Limits
from data_prep.video.run import Track, tracks_of_video

__all__ = ["Limits", "Track", "tracks_of_video"]
