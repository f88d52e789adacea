/**
 * The virtio network header that the kernel puts in front of each packet on a TUN opened with IFF_VNET_HDR
 * (struct virtio_net_hdr, include/uapi/linux/virtio_net.h): 10 bytes, 12 with the count of merged buffers.
 *
 * Fish leaves it as it came. Its other fields (segment size, header length) speak of lengths, which translation does
 * not change.
 */
export type VnetHeaderBytes = 0 | 10 | 12;

/** Flag: the transport checksum is to be completed from `checksumStart`, into the word at `checksumOffset` behind it. */
const NEEDS_CSUM = 1;
const GSO_NONE = 0;

/** Unlike everything that goes over a network, these fields are in the byte order of the machine. */
const littleEndian = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

/** Whether the packet's transport checksum still has to be completed. */
export const needsChecksum = (view: DataView): boolean => (view.getUint8(0) & NEEDS_CSUM) !== 0;
/** Whether it is several packets in one, which the kernel or the network card has yet to cut apart. */
export const isSegmented = (view: DataView): boolean => view.getUint8(1) !== GSO_NONE;
/** How many packets it will be, of `dataBytes`; 1 without a header. */
export const segmentsOf = (view: DataView, headerBytes: number, dataBytes: number): number =>
  headerBytes === 0 || !isSegmented(view) ? 1 : Math.ceil(dataBytes / Math.max(1, view.getUint16(4, littleEndian)));
/** Where the data of that checksum begins, counted from the IP header. */
export const checksumStart = (view: DataView): number => view.getUint16(6, littleEndian);
/** Where its field is, counted from the start of that data. */
export const checksumOffset = (view: DataView): number => view.getUint16(8, littleEndian);
