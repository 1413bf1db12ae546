// conv
#include "scn.h"
EXPORT void KERNEL(nothing_conv)(void) {}
