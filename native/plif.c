// plif
#include "scn.h"
EXPORT void KERNEL(nothing_plif)(void) {}
