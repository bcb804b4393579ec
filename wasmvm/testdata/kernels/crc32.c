// CRC-32 bit by bit of 4 KiB, over and over.
typedef unsigned int u32;
static unsigned char data[4096];

u32 run(u32 n) {
	u32 crc = ~0u;
	for (int i = 0; i < 4096; i++) data[i] = i * 13;
	while (n--)
		for (int i = 0; i < 4096; i++) {
			crc ^= data[i];
			for (int b = 0; b < 8; b++) crc = crc >> 1 ^ (0xedb88320 & -(crc & 1));
		}
	return ~crc;
}
