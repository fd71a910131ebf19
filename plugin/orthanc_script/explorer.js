// A button on the page of a study in Orthanc Explorer; Orthanc appends this to its own scripts.
$('#study').live('pagebeforecreate', function() {
  var button = $('<a>')
    .attr('data-role', 'button').attr('href', '#').attr('data-icon', 'star').attr('data-theme', 'e')
    .text('Segment glioma');

  function failed(answer) {
    var said = {};
    try { said = JSON.parse(answer.responseText); } catch (e) { }
    alert('glionode: ' + (said.error || 'the request failed (HTTP ' + answer.status + ').'));
  }

  function submit(url, force) {
    $.ajax({
      url: url, type: 'POST', dataType: 'json', data: JSON.stringify({ force: force }), contentType: 'application/json',
      success: function(answer) {
        alert('glionode: the study is ' + answer.state + '. Results will appear here as series of their own.');
      },
      error: failed
    });
  }

  button.insertBefore($('#study-delete').parent().parent());
  button.click(function() {
    if (!$.mobile.pageData) return;
    var url = '../glionode/studies/' + $.mobile.pageData.uuid;
    $.ajax({
      url: url, type: 'GET', dataType: 'json', cache: false,
      success: function(found) {
        if (found.state === 'queued' || found.state === 'running') {
          alert('glionode: the study is ' + found.state + '.');
        } else if (found.state === 'unknown') {
          submit(url, false);
        } else if (confirm('glionode: the study is ' + found.state + (found.reason ? ': ' + found.reason : '.') +
                           '\n\nSegment it once more?')) {
          submit(url, true);
        }
      },
      error: failed
    });
  });
});
