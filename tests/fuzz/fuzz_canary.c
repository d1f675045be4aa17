/* A target with a fault: shows that the replay would see one. */
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return data[size] == 'x';           /* one octet too far */
}
