package wire

// Private is private.
const Private = private
