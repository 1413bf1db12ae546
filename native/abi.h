// The border between this library and its caller, ops/structs.py: both must mean the same by every struct and argument.
#ifndef ABI_H
#define ABI_H

// Raise it, there too, when an exported function or the meaning of anything it takes changes.
#define SCN_ABI_VERSION 3

#endif
