"""What is kept on disk: the store of clips, features and scores, the folder of a run, video files."""
