//! What a journal must hold after a crash: which bytes are whole, which may be cut, which prove a loss.
