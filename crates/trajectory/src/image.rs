//! Encoded images: what their headers say, and their pixels where statistics need them.
