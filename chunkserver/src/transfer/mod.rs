//! placeholder: the data plane
