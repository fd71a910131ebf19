// Functions that the tests call in OHIF's page, as window.glionode. Series Instance UIDs identify objects. Masks have the
// form of read_segments.cjs: {segment number: {SOP Instance UID of the source: {voxels, sha256}}}.
(() => {
  const sopOf = (imageId) => imageId?.match(/\/instances\/([\d.]+)/)?.[1]; // undefined without an image

  const displaySet = (series) =>
    services.displaySetService.getActiveDisplaySets().find((each) => each.SeriesInstanceUID === series);

  const viewport = () => cornerstone.getEnabledElements()[0]?.viewport;

  async function sha256(bytes) {
    const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
    return [...digest].map((byte) => byte.toString(16).padStart(2, '0')).join('');
  }

  /** The series that are there: each by its UID, with the series that OHIF attached it to, null for none. */
  function allSeries() {
    const all = services.displaySetService.getActiveDisplaySets();
    const series = Object.fromEntries(all.map((each) => [each.displaySetInstanceUID, each.SeriesInstanceUID]));
    return Object.fromEntries(
      all.map((each) => [each.SeriesInstanceUID, series[each.referencedDisplaySetInstanceUID] ?? null]),
    );
  }

  /** Where a voxel of an image stands in the patient, by what OHIF knows of the image. */
  function inPatient(imageId, column, row) {
    const plane = cornerstone.metaData.get('imagePlaneModule', imageId);
    return [0, 1, 2].map(
      (axis) =>
        plane.imagePositionPatient[axis] +
        column * plane.columnPixelSpacing * plane.rowCosines[axis] +
        row * plane.rowPixelSpacing * plane.columnCosines[axis],
    );
  }

  /** Every voxel that OHIF decoded from a SEG, and the middle of each segment in the patient. */
  async function segments(series) {
    const set = displaySet(series);
    await set.load({ headers: {} });
    const labelMaps = Array.isArray(set.labelMapImages[0]) ? set.labelMapImages : [set.labelMapImages];
    const found = {};
    const sums = {};
    for (const image of labelMaps.flat()) {
      const values = image.voxelManager.getScalarData();
      for (const number of new Set(values)) {
        if (number === 0) continue;
        const mask = Uint8Array.from(values, (value) => value === number);
        const places = [...mask.keys()].filter((index) => mask[index]);
        (found[number] ??= {})[sopOf(image.referencedImageId)] = { voxels: places.length, sha256: await sha256(mask) };
        const mean = (of) => places.reduce((sum, index) => sum + of(index), 0) / places.length;
        const column = mean((index) => index % image.columns);
        const row = mean((index) => Math.floor(index / image.columns));
        const middle = inPatient(image.referencedImageId, column, row);
        const weighed = [...middle, 1].map((value) => value * places.length);
        sums[number] = weighed.map((value, axis) => value + (sums[number]?.[axis] ?? 0));
      }
    }
    const centres = Object.fromEntries(
      Object.entries(sums).map(([number, [x, y, z, voxels]]) => [number, [x / voxels, y / voxels, z / voxels]]),
    );
    return { found, centres };
  }

  /** Put a series into the one viewport, as a double click on its thumbnail does. */
  const show = (series) =>
    services.viewportGridService.setDisplaySetsForViewport({
      viewportId: services.viewportGridService.getActiveViewportId(),
      displaySetInstanceUIDs: [displaySet(series).displaySetInstanceUID],
    });

  const shows = (series) =>
    viewport()?.viewportStatus === 'rendered' &&
    displaySet(series).instances.some((each) => each.SOPInstanceUID === sopOf(viewport().getCurrentImageId()));

  /**
   * True once that image of the series in the viewport and that many overlays of its own are drawn. It scrolls there as
   * often as needed: OHIF makes the viewport anew, at an image of its choice, when it has loaded a SEG.
   */
  const drawn = (sop, overlays) => {
    if (viewport()?.viewportStatus !== 'rendered') return false;
    if (sopOf(viewport().getCurrentImageId()) !== sop) {
      const index = viewport().getImageIds().findIndex((each) => sopOf(each) === sop);
      if (index >= 0) viewport().setImageIdIndex(index);
      return false;
    }
    const layers = viewport().getActors().filter((each) => each.uid !== viewport().id);
    return (
      layers.length === overlays &&
      layers.every((each) => sopOf(cornerstone.cache.getImage(each.referencedId)?.referencedImageId) === sop)
    );
  };

  /** Where points of the patient stand in the page, in its pixels. */
  const inPage = (points) => {
    const { left, top } = viewport().element.getBoundingClientRect();
    return points.map((point) => viewport().worldToCanvas(point)).map(([x, y]) => [left + x, top + y]);
  };

  /** Where and what OHIF measures by a report: lines in world coordinates, labels as it prints them. */
  const measurements = (series) =>
    displaySet(series).measurements.map((each) => ({
      labels: each.labels.map(({ label, value }) => [label, value]),
      sop: each.imageId && sopOf(each.imageId),
      lines: cornerstoneTools.annotation.state
        .getAllAnnotations()
        .filter((one) => one.data?.TrackingUniqueIdentifier === each.TrackingUniqueIdentifier)
        .flatMap((one) => one.data.renderableData.POLYLINE),
    }));

  /** The image in the viewport as cornerstone decoded it. */
  async function pixels() {
    const image = cornerstone.cache.getImage(viewport().getCurrentImageId());
    const shape = [image.rows, image.columns, image.numberOfComponents];
    return { shape, sha256: await sha256(new Uint8Array(image.getPixelData())) };
  }

  window.glionode = { allSeries, segments, show, shows, drawn, inPage, measurements, pixels };
})();
