//! placeholder: the chunk store
