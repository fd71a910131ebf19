// Read a SEG with dcmjs and print its segments. Run: node read_segments.cjs DCMJS_FOLDER SEG_FILE
// The output is JSON: {segment number: {SOP Instance UID of the source: {voxels, sha256}}}, without empty slices.
const { createHash } = require('node:crypto');
const { readFileSync } = require('node:fs');
const { resolve } = require('node:path');

const [dcmjsFolder, segFile] = process.argv.slice(2);
const { BitArray, DicomMessage, DicomMetaDictionary } = require(resolve(dcmjsFolder)).data;

const file = readFileSync(segFile);
const message = DicomMessage.readFile(file.buffer.slice(file.byteOffset, file.byteOffset + file.byteLength));
const seg = DicomMetaDictionary.naturalizeDataset(message.dict);
const voxels = BitArray.unpack(seg.PixelData[0] ?? seg.PixelData);

/** dcmjs gives a sequence of one item as the item. */
const first = (sequence) => (Array.isArray(sequence) ? sequence[0] : sequence);

const found = {};
[seg.PerFrameFunctionalGroupsSequence].flat().forEach((groups, frame) => {
  const bits = voxels.slice(frame * seg.Rows * seg.Columns, (frame + 1) * seg.Rows * seg.Columns);
  const mask = Uint8Array.from(bits, (bit) => bit !== 0); // dcmjs unpacks a bit to 0 or 255
  const count = mask.reduce((sum, one) => sum + one, 0);
  if (count === 0) return;
  const number = first(groups.SegmentIdentificationSequence).ReferencedSegmentNumber;
  const source = first(first(groups.DerivationImageSequence).SourceImageSequence).ReferencedSOPInstanceUID;
  (found[number] ??= {})[source] = { voxels: count, sha256: createHash('sha256').update(mask).digest('hex') };
});
process.stdout.write(JSON.stringify(found));
