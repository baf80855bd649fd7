//! Names and descriptions of what a chunkserver counts.
