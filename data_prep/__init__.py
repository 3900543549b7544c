"""From raw silhouettes and videos to array records."""
